//! How a command ended that got as far as doing something, and what is said about it.

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

/// How many lines of a failed process's standard error are shown: Node's report of a syntax error begins with the place
/// and is 14 lines long.
const LAST_WORDS: usize = 20;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was done.
    Done,
    /// Something was not; it has been said what.
    Incomplete,
}

impl Outcome {
    /// 0 or 1.
    #[must_use]
    pub fn code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Incomplete => ExitCode::FAILURE,
        }
    }

    /// Done if and only if the report says so.
    #[must_use]
    pub fn of(report: &Report) -> Outcome {
        if report.succeeded() { Outcome::Done } else { Outcome::Incomplete }
    }

    /// Done if both are.
    #[must_use]
    pub fn and(self, other: Outcome) -> Outcome {
        if self == Outcome::Done { other } else { self }
    }
}

/// How long the logs of errors were before something was done: what they held then is about something else.
#[derive(Debug, Default)]
pub struct Lengths(HashMap<PathBuf, u64>);

impl Lengths {
    /// Those of these processes, at this moment.
    #[must_use]
    pub fn now(processes: &[ProcessInfo]) -> Lengths {
        let logs = processes.iter().filter_map(|info| info.err_log.clone());
        Lengths(logs.filter_map(|path| std::fs::metadata(&path).ok().map(|file| (path, file.len()))).collect())
    }

    /// The last lines since then; none of a file that nothing was written to.
    fn last_words(&self, path: &Path, begun: SystemTime) -> Vec<String> {
        match self.0.get(path) {
            _ if is_older(path, begun) => Vec::new(),
            Some(length) => last_lines_from(path, LAST_WORDS, *length),
            None => last_lines(path, LAST_WORDS),
        }
    }
}

/// Prints the report of an operation: a line for each process, and the last log lines of those that failed.
pub fn print_report(report: &Report, processes: &[ProcessInfo], lengths: &Lengths, cx: &Context) -> Outcome {
    let mut shown = Vec::new();
    for line in &report.lines {
        let text = view::report::line(line, cx.ui.look());
        if matches!(line.verdict, Verdict::Done | Verdict::Planned { .. }) {
            cx.ui.say(&text);
        } else {
            cx.ui.complain(&text);
            if let Some(path) = error_log(line, processes).filter(|path| !shown.contains(path)) {
                last_words(path, lengths, cx);
                shown.push(path);
            }
        }
    }
    for note in &report.notes {
        cx.ui.say(note);
    }
    Outcome::of(report)
}

/// Where a process that failed to start may have said why. Several can share one file.
fn error_log<'a>(line: &ReportLine, processes: &'a [ProcessInfo]) -> Option<&'a Path> {
    if !line.has_last_words() {
        return None;
    }
    let same = processes.iter().find(|info| info.id == line.id);
    let kin = || processes.iter().find(|info| info.name == line.name);
    same.or_else(kin)?.err_log.as_deref()
}

fn last_words(path: &Path, lengths: &Lengths, cx: &Context) {
    let words = lengths.last_words(path, cx.begun);
    if words.is_empty() {
        cx.ui.err(&format!("    it wrote nothing to {}", path.display()));
    } else {
        cx.ui.err(&format!("    the end of {}:\n{}", path.display(), indent(&words)));
    }
}

/// True if nothing was written to a file since the command was given: what it says is about something else. The kernel
/// notes times of files a little early.
fn is_older(path: &Path, begun: SystemTime) -> bool {
    const TICK: Duration = Duration::from_millis(20);
    let written = std::fs::metadata(path).and_then(|file| file.modified());
    written.is_ok_and(|written| written + TICK < begun)
}

/// Prints the report of an operation, then the list.
pub async fn conclude(report: &Report, client: &Client, lengths: &Lengths, cx: &Context) -> Result<Outcome, Failure> {
    let processes = client.list().await?;
    let outcome = print_report(report, &processes, lengths, cx);
    cx.ui.show(&view::list::table(&processes, view::list::Order::default(), cx.now(), cx.ui.look()));
    Ok(outcome)
}

/// Adds the lines of a second report to the first.
pub fn append(report: &mut Report, more: Report) {
    report.lines.extend(more.lines);
    report.notes.extend(more.notes);
}

/// Does something to processes and shows the list: what stop, delete, scale and the like come to.
pub async fn act_and_show(
    client: &Client,
    action: Action,
    target: Vec<Selector>,
    cx: &Context,
) -> Result<Outcome, Failure> {
    let report = client.act(action, target).await?;
    conclude(&report, client, &Lengths::default(), cx).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::sample;

    #[test]
    fn last_words_are_those_of_this_time() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("e.log");
        let log = [ProcessInfo { err_log: Some(path.clone()), ..sample::info() }];
        std::fs::write(&path, "an old error\n").unwrap();
        let lengths = Lengths::now(&log);
        let words = || lengths.last_words(&path, SystemTime::UNIX_EPOCH);
        assert_eq!(words(), [""; 0]);
        std::fs::write(&path, "an old error\na new one\n").unwrap();
        assert_eq!(words(), ["a new one"]);
        std::fs::write(&path, "rotated\n").unwrap();
        assert_eq!(words(), ["rotated"], "it is shorter than it was");
        assert_eq!(Lengths::default().last_words(&path, SystemTime::UNIX_EPOCH), ["rotated"]);
    }
}
