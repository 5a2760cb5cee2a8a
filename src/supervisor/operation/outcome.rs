//! Whether a process has reached what a verb is to bring about.

use super::kind::Kind;
use crate::protocol::Verdict;
use crate::supervisor::process::{Goal, Process, State};

/// The result of a verb for one process; `None` while it is open.
pub(super) fn outcome(process: Option<&Process>, kind: Kind) -> Option<Verdict> {
    let Some(process) = process else { return Some(Verdict::Done) };
    if process.is_stuck() {
        let reason = "not even SIGKILL ends it at present: the kernel keeps it waiting, for a disk or a network perhaps, \
                      and it is gone when that is over";
        return Some(Verdict::Failed { reason: reason.to_owned(), old_serves: false });
    }
    match kind {
        Kind::Stop => (process.is_empty() && !process.is_active()).then_some(Verdict::Done),
        Kind::Delete => None,
        Kind::Scale(_) if process.goal == Goal::Gone => None,
        Kind::Start | Kind::Restart | Kind::Scale(_) => launched(process),
        Kind::Reload => match launched(process) {
            Some(Verdict::Done) if !process.retiring.is_empty() => None,
            verdict => verdict,
        },
    }
}

fn launched(process: &Process) -> Option<Verdict> {
    let failed = |old_serves| {
        let reason = process.reason.clone().unwrap_or_else(|| "it did not start".to_owned());
        Some(Verdict::Failed { reason, old_serves })
    };
    match &process.state {
        State::Online(_) if process.launch_failed => failed(true),
        State::Online(_) => Some(Verdict::Done),
        State::Launching { .. } if process.launch_failed => failed(false),
        State::Launching { .. } | State::Canary { .. } | State::Stopping(_) => None,
        State::Idle => Some(Verdict::Done),
        State::Waiting { .. } | State::Errored => failed(false),
        State::Stopped if process.goal == Goal::Down && !process.launch_failed => Some(Verdict::Done),
        State::Stopped => failed(false),
    }
}
