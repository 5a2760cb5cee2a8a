//! The history: a line for each event.

use jiff::{Timestamp, tz::TimeZone};

use super::{BAD, GOOD, Terminal, WARNING, exit_words};
use crate::protocol::info::EpochMs;
use crate::protocol::{Event, EventKind};
use crate::spec::value;

/// How times and users are shown.
pub struct Names<'a> {
    /// Time zone of the reader.
    pub zone: TimeZone,
    /// Name of a user, by uid.
    pub user: &'a dyn Fn(u32) -> String,
}

impl Names<'_> {
    /// `2026-11-21 14:03:11`.
    #[must_use]
    pub fn time(&self, at: EpochMs) -> String {
        let at = i64::try_from(at).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        at.map_or_else(String::new, |at| at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
    }
}

/// The events, a line for each.
#[must_use]
pub fn text(events: &[Event], names: &Names<'_>, terminal: Terminal) -> String {
    events.iter().map(|event| line(event, names, terminal)).collect::<Vec<_>>().join("\n")
}

fn line(event: &Event, names: &Names<'_>, terminal: Terminal) -> String {
    let subject =
        event.process.as_ref().map_or_else(|| "pmr".into(), |process| format!("{} ({})", process.name, process.id));
    let words = words(&event.kind, names);
    let words = match &event.kind {
        EventKind::Online => terminal.paint(GOOD, &words),
        EventKind::Exited { expected: false, .. }
        | EventKind::StartFailed { .. }
        | EventKind::NotReplaced { .. }
        | EventKind::Errored { .. } => terminal.paint(BAD, &words),
        EventKind::OverMemory { .. }
        | EventKind::Hung { .. }
        | EventKind::WaitingRestart { .. }
        | EventKind::RollingBack { .. }
        | EventKind::TakenBack
        | EventKind::Recovered { .. } => terminal.paint(WARNING, &words),
        EventKind::Requested { .. }
        | EventKind::Created
        | EventKind::Started { .. }
        | EventKind::Exited { expected: true, .. }
        | EventKind::Stopping
        | EventKind::Stopped
        | EventKind::Completed
        | EventKind::Held { .. }
        | EventKind::Deleted
        | EventKind::Idle
        | EventKind::Unhealthy { .. }
        | EventKind::Healthy
        | EventKind::Canary { .. }
        | EventKind::Message { .. }
        | EventKind::Listening { .. }
        | EventKind::Saved
        | EventKind::ShuttingDown
        | EventKind::Lost { .. } => words,
    };
    format!("{}  {subject}  {words}", names.time(event.at))
}

/// A command line without the folder of its program.
fn shortened(command: &str) -> &str {
    let program = command.split(' ').next().unwrap_or_default();
    &command[program.rfind('/').map_or(0, |slash| slash + 1)..]
}

/// The event as a phrase: `ended by itself: code 1`.
#[must_use]
pub fn words(kind: &EventKind, names: &Names<'_>) -> String {
    match kind {
        EventKind::Requested { verb, by } => {
            format!("`{verb}` was requested by {}: {}", (names.user)(by.uid), shortened(&by.command))
        }
        EventKind::Created => "was added".into(),
        EventKind::Started { pid } => format!("started (pid {pid})"),
        EventKind::StartFailed { error } => format!("could not be started: {error}"),
        EventKind::Online => "online".into(),
        EventKind::Exited { exit, expected: true } => format!("ended as requested ({})", exit_words(*exit)),
        EventKind::Exited { exit, expected: false } => format!("ended by itself: {}", exit_words(*exit)),
        EventKind::Errored { reason } => format!("given up: {reason}"),
        EventKind::WaitingRestart { delay_ms } => format!("starts again in {delay_ms} ms"),
        EventKind::Stopping => "stopping".into(),
        EventKind::Stopped => "stopped".into(),
        EventKind::Completed => "completed: it ended with code 0 and is not restarted".into(),
        EventKind::Held { why } => why.clone(),
        EventKind::Deleted => "was deleted".into(),
        EventKind::Canary { duration_ms } => format!("is a canary, observed for {}", value::in_words(*duration_ms)),
        EventKind::RollingBack { reason } => format!("is rolled back to the previous release: {reason}"),
        EventKind::NotReplaced { reason, old_serves } => {
            let rest = if *old_serves { "; the old process goes on serving" } else { "" };
            format!("could not be replaced: {reason}{rest}")
        }
        EventKind::TakenBack => "its replacement is rolled back: the previous release serves".into(),
        EventKind::Unhealthy { reason } => format!("unhealthy: {reason}"),
        EventKind::Healthy => "healthy again".into(),
        EventKind::Idle => "idle: stopped until the next connection".into(),
        EventKind::Hung { timeout_ms: 0 } => "reports that it hangs, and is restarted".into(),
        EventKind::Hung { timeout_ms } => {
            format!("did not report within {timeout_ms} ms that it is alive, and is restarted")
        }
        EventKind::OverMemory { bytes, limit } => format!(
            "uses {} of memory, more than its limit of {}, and is replaced",
            value::megabytes(*bytes),
            value::megabytes(*limit)
        ),
        EventKind::Message { data } => format!("sent a message: {data}"),
        EventKind::Listening { address } => format!("listens on {address}"),
        EventKind::Saved => "the list was saved".into(),
        EventKind::Recovered { after, gap_ms, runs } => {
            let how = after.map_or_else(|| "is gone".into(), |exit| format!("died ({})", exit_words(exit)));
            format!("the daemon {how}; {runs} processes ran on, and the next daemon took over after {gap_ms} ms")
        }
        EventKind::ShuttingDown => "the daemon shuts down".into(),
        EventKind::Lost { count } => format!("{count} events are missing here"),
    }
}
