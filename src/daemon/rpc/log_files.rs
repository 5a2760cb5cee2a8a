//! Requests about log files. They wait for the disk, so each is answered by a task of its own.

use std::path::PathBuf;

use super::super::launch::{Launcher, environment};
use super::command::Reply;
use crate::logs::LogFiles;
use crate::protocol::{Refusal, Report, ReportLine, Verdict};
use crate::spec::target::Selector;
use crate::supervisor::Supervisor;

/// Truncates the log files of the processes selected, once what was written before is in them.
pub(crate) fn flush(target: &[Selector], supervisor: &Supervisor, launcher: &Launcher, reply: Reply) {
    let ids = match supervisor.select(target) {
        Ok(ids) => ids,
        Err(refusal) => return drop(reply.send(Err(refusal))),
    };
    let mut report = Report::default();
    let mut paths: Vec<PathBuf> = Vec::new();
    for process in ids.iter().filter_map(|id| supervisor.process(*id)) {
        let Some(app) = supervisor.app(process.app) else { continue };
        let (logs, _) = environment::files(&launcher.home, &app.spec, process);
        paths.extend(logs.out.into_iter().chain(logs.err));
        let (name, verb) = (app.spec.name.clone(), "flush".to_owned());
        report.lines.push(ReportLine { id: process.id.0, name, verb, verdict: Verdict::Done });
    }
    let logs = launcher.logs.clone();
    // Ends when the files are truncated; a client that left does not matter.
    tokio::task::spawn_local(async move {
        let flushed = logs.flush(&paths).await;
        let _ = reply.send(flushed.map(|()| report).map_err(|(path, error)| Refusal::Failed {
            doing: format!("truncating {}", path.display()),
            error: error.to_string(),
        }));
    });
}

/// Closes all log files and opens them again, as after a rotation by another program.
pub(crate) fn reopen(logs: &LogFiles, reply: Option<Reply>) {
    let logs = logs.clone();
    tokio::task::spawn_local(async move {
        logs.reopen_all().await;
        if let Some(reply) = reply {
            let _ = reply.send(Ok(Report::default()));
        }
    });
}
