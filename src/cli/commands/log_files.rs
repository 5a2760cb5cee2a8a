//! Which files `logs` means: those of the processes named, as the daemon knows them. Reading them is
//! [`logs`](super::logs).

use super::super::Context;
use super::super::failure::{Doing, Failure};
use super::super::outcome::Outcome;
use super::logs::{self, LogSource, LogsArgs, Screen};
use crate::logs::format::Stream;
use crate::protocol::{ProcessInfo, Refusal};
use crate::spec::target::{Selector, similar};

/// The name by which the daemon's own log is asked for, and shown.
const DAEMON: &str = "PMR";

/// Runs `logs`. Without a daemon its own log can still be read.
pub async fn run(args: LogsArgs, cx: &Context) -> Result<Outcome, Failure> {
    let daemon_only = args.selectors.iter().all(|word| word == DAEMON);
    let processes = match cx.daemon_if_any().await? {
        Some(daemon) => daemon.list().await?,
        None if daemon_only => Vec::new(),
        None => return Err(Failure::no_daemon(cx.home.root())),
    };
    let files = files(&args.selectors, &processes, cx)?;
    cx.ui
        .stream(|out, fd, colour| logs::run(&args, files, Screen { out, fd: Some(fd), colour }))
        .doing(|| "reading the logs".into())?;
    Ok(Outcome::Done)
}

fn files(words: &[String], processes: &[ProcessInfo], cx: &Context) -> Result<Vec<LogSource>, Failure> {
    let mut files = Vec::new();
    if words.is_empty() || words.iter().any(|word| word == DAEMON) {
        let path = cx.home.daemon_log();
        files.push(LogSource { process_id: None, name: DAEMON.to_owned(), stream: Stream::Daemon, path });
    }
    if words.is_empty() {
        files.extend(processes.iter().flat_map(of_process));
    }
    for word in words.iter().filter(|word| *word != DAEMON) {
        let found = super::id::matching(processes, &[Selector::parse(word)?]);
        if found.is_empty() {
            let names: Vec<&str> = processes.iter().map(|info| info.name.as_str()).collect();
            return Err(Refusal::NoMatch { selector: word.clone(), similar: similar(word, &names) }.into());
        }
        files.extend(found.into_iter().flat_map(of_process));
    }
    Ok(files)
}

fn of_process(info: &ProcessInfo) -> impl Iterator<Item = LogSource> {
    let source = |stream, path: &Option<std::path::PathBuf>| {
        path.clone().map(|path| LogSource { process_id: Some(info.id), name: info.name.clone(), stream, path })
    };
    [source(Stream::Out, &info.out_log), source(Stream::Err, &info.err_log)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::super::ui::Ui;
    use super::super::super::view::sample;
    use super::*;
    use crate::paths::Home;

    #[test]
    fn the_files_of_whom_is_named() {
        let cx = Context { home: Home::new("/h".into()), ui: Ui::new(true, true) };
        let processes = [sample::info()];
        let paths = |words: &[&str]| -> Vec<String> {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let files = files(&words, &processes, &cx).unwrap();
            files.iter().map(|file| file.path.display().to_string()).collect()
        };
        assert_eq!(paths(&[]), ["/h/pmr.log", "/h/logs/api-out-3.log", "/h/logs/api-error-3.log"]);
        assert_eq!(paths(&["3"]), ["/h/logs/api-out-3.log", "/h/logs/api-error-3.log"]);
        assert_eq!(paths(&["PMR"]), ["/h/pmr.log"]);
        let failure = files(&["apj".into()], &processes, &cx).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean api?"));
    }
}
