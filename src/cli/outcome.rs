//! How a command ended that sent its request, and the report that it prints.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::last_lines::{indent, last_lines, last_lines_from};
use super::view;
use crate::protocol::{Action, ProcessInfo, Report, ReportLine, Verdict};
use crate::spec::target::Selector;

/// Number of lines that are shown of a failed process's standard error: Node's report of a syntax error begins with the
/// place and is 14 lines long.
const LAST_LINES: usize = 20;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done.
    Done,
    /// Something was not done; the command has printed what.
    Incomplete,
}

impl Outcome {
    /// The exit code: 0 or 1.
    #[must_use]
    pub fn code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Incomplete => ExitCode::FAILURE,
        }
    }

    /// [`Outcome::Done`] if and only if everything in the report succeeded.
    #[must_use]
    pub fn of(report: &Report) -> Outcome {
        if report.succeeded() { Outcome::Done } else { Outcome::Incomplete }
    }

    /// [`Outcome::Done`] if both are.
    #[must_use]
    pub fn and(self, other: Outcome) -> Outcome {
        if self == Outcome::Done { other } else { self }
    }
}

/// LogLengths of the error logs before an operation: older lines in them do not belong to it.
#[derive(Debug, Default)]
pub struct LogLengths(HashMap<PathBuf, u64>);

impl LogLengths {
    /// LogLengths of these processes' error logs at this moment.
    #[must_use]
    pub fn now(processes: &[ProcessInfo]) -> LogLengths {
        let logs = processes.iter().filter_map(|info| info.err_log.clone());
        LogLengths(logs.filter_map(|path| std::fs::metadata(&path).ok().map(|file| (path, file.len()))).collect())
    }

    /// The last lines that were written since then.
    fn new_lines(&self, path: &Path, started: SystemTime) -> Vec<String> {
        match self.0.get(path) {
            _ if is_older(path, started) => Vec::new(),
            Some(length) => last_lines_from(path, LAST_LINES, *length),
            None => last_lines(path, LAST_LINES),
        }
    }
}

/// Prints the report of an operation: a line for each process, and the last log lines of those that failed.
pub fn print_report(report: &Report, processes: &[ProcessInfo], lengths: &LogLengths, cx: &Context) -> Outcome {
    let mut shown = Vec::new();
    for line in &report.lines {
        let text = view::report::line(line, cx.ui.terminal());
        if matches!(line.verdict, Verdict::Done | Verdict::Planned { .. }) {
            cx.ui.info(&text);
        } else {
            cx.ui.error(&text);
            if let Some(path) = error_log(line, processes).filter(|path| !shown.contains(path)) {
                print_new_lines(path, lengths, cx);
                shown.push(path);
            }
        }
    }
    for note in &report.notes {
        cx.ui.info(note);
    }
    Outcome::of(report)
}

/// The error log of a process that failed to start. Several processes can share one file.
fn error_log<'a>(line: &ReportLine, processes: &'a [ProcessInfo]) -> Option<&'a Path> {
    if !line.has_last_words() {
        return None;
    }
    let same = processes.iter().find(|info| info.id == line.id);
    let namesake = || processes.iter().find(|info| info.name == line.name);
    same.or_else(namesake)?.err_log.as_deref()
}

fn print_new_lines(path: &Path, lengths: &LogLengths, cx: &Context) {
    let lines = lengths.new_lines(path, cx.started);
    if lines.is_empty() {
        cx.ui.stderr(&format!("    it wrote nothing to {}", path.display()));
    } else {
        cx.ui.stderr(&format!("    the end of {}:\n{}", path.display(), indent(&lines)));
    }
}

/// True if nothing was written to a file since the command was started. The kernel sets times of files up to a tick
/// early.
fn is_older(path: &Path, started: SystemTime) -> bool {
    const TICK: Duration = Duration::from_millis(20);
    let written = std::fs::metadata(path).and_then(|file| file.modified());
    written.is_ok_and(|written| written + TICK < started)
}

/// Prints the report of an operation, then the list.
pub async fn conclude(
    report: &Report,
    client: &Client,
    lengths: &LogLengths,
    cx: &Context,
) -> Result<Outcome, Failure> {
    let processes = client.list().await?;
    let outcome = print_report(report, &processes, lengths, cx);
    cx.ui.show(&view::list::table(&processes, view::list::Order::default(), cx.now(), cx.ui.terminal()));
    Ok(outcome)
}

/// Adds the lines of a second report to the first.
pub fn append(report: &mut Report, more: Report) {
    report.lines.extend(more.lines);
    report.notes.extend(more.notes);
}

/// Carries out an action and shows the list: all of stop, delete, scale and reset.
pub async fn act_and_show(
    client: &Client,
    action: Action,
    target: Vec<Selector>,
    cx: &Context,
) -> Result<Outcome, Failure> {
    let report = client.act(action, target).await?;
    conclude(&report, client, &LogLengths::default(), cx).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::sample;

    #[test]
    fn only_lines_since_the_start_of_the_operation_are_shown() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("e.log");
        let log = [ProcessInfo { err_log: Some(path.clone()), ..sample::info() }];
        std::fs::write(&path, "an old error\n").unwrap();
        let lengths = LogLengths::now(&log);
        let lines = || lengths.new_lines(&path, SystemTime::UNIX_EPOCH);
        assert_eq!(lines(), [""; 0]);
        std::fs::write(&path, "an old error\na new one\n").unwrap();
        assert_eq!(lines(), ["a new one"]);
        std::fs::write(&path, "rotated\n").unwrap();
        assert_eq!(lines(), ["rotated"], "it is shorter than it was");
        assert_eq!(LogLengths::default().new_lines(&path, SystemTime::UNIX_EPOCH), ["rotated"]);
    }
}
