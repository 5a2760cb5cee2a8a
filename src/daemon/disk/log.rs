//! The daemon's own log: `pmr.log`, rotated at 10 MB with three rotated files kept.
//!
//! Lines go through a bounded queue to a thread of their own, so a slow disk never blocks the God task. Lines that do not
//! fit are lost, and the next line says how many.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::rotate;
use super::rotate::Rotating;
use crate::os::clock;
use crate::protocol::EventKind;
use crate::protocol::event::EventProcess;
use crate::supervisor::restart::in_words;

/// Size in bytes at which the file is rotated.
const MAX_BYTES: u64 = 10 << 20;
/// Rotated files that are kept.
const KEPT: u32 = 3;
const QUEUED_LINES: usize = 1024;

/// Writes everything that is traced from now on to `path`, as soon as that file can be written. What was traced before is
/// not written anywhere.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(path: &Path) -> io::Result<()> {
    let mut file = Rotating::new(path.to_owned(), MAX_BYTES, KEPT);
    let (lines, queue) = mpsc::sync_channel::<Vec<u8>>(QUEUED_LINES);
    std::thread::Builder::new().name("log".into()).stack_size(256 << 10).spawn(move || {
        for line in queue {
            file.write(&line);
        }
    })?;
    let queue = Queue { lines, lost: Arc::default() };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_target(false)
        .with_ansi(false)
        .with_timer(LocalTime)
        .with_writer(queue)
        .finish();
    // A second daemon in one process (tests) keeps the first one's log.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Logs an event about a process, if operators look for events of its kind in the daemon's log.
pub fn event(about: &EventProcess, kind: &EventKind) {
    let process = format_args!("{} ({})", about.name, about.id);
    match kind {
        EventKind::Started { pid } => tracing::info!("{process} started as pid {pid}"),
        EventKind::Exited { exit, expected: true } => {
            tracing::info!("{process} was stopped, and {}", in_words(*exit));
        }
        EventKind::Exited { exit, expected: false } => tracing::warn!("{process} {}", in_words(*exit)),
        EventKind::StartFailed { error } => tracing::warn!("{process} could not be started: {error}"),
        EventKind::Errored { reason } => tracing::error!("{process} {reason}"),
        EventKind::Unhealthy { reason } => tracing::warn!("{process} is unhealthy: {reason}"),
        EventKind::Healthy => tracing::info!("{process} is healthy again"),
        EventKind::Canary { duration_ms } => tracing::info!("{process} is a canary, watched for {duration_ms} ms"),
        EventKind::RollingBack { reason } => tracing::warn!("{process} is to be rolled back: {reason}"),
        EventKind::NotReplaced { reason, .. } => tracing::warn!("{process} could not be replaced: {reason}"),
        EventKind::TakenBack => tracing::warn!("{process} is rolled back to the previous release"),
        EventKind::OverMemory { bytes, limit } => {
            tracing::warn!("{process} uses {bytes} bytes of memory, more than its limit of {limit}: it is replaced");
        }
        EventKind::Requested { verb, by } => {
            tracing::info!("{process}: `{verb}` requested by user {}, pid {} ({})", by.uid, by.pid, by.command);
        }
        EventKind::Deleted => tracing::info!("{process} was deleted"),
        EventKind::Completed => tracing::info!("{process} has completed"),
        EventKind::Held { why } => tracing::info!("{process} {why}"),
        EventKind::Idle => tracing::info!("{process} is idle: the next connection starts it"),
        EventKind::Hung { timeout_ms: 0 } => tracing::warn!("{process} reported that it hangs: it is restarted"),
        EventKind::Hung { timeout_ms } => {
            tracing::warn!("{process} has not reported for {timeout_ms} ms that it is alive: it is restarted");
        }
        EventKind::Created
        | EventKind::Online
        | EventKind::WaitingRestart { .. }
        | EventKind::Stopping
        | EventKind::Stopped
        | EventKind::Message { .. }
        | EventKind::Listening { .. }
        | EventKind::Saved
        | EventKind::Recovered { .. }
        | EventKind::ShuttingDown
        | EventKind::Lost { .. } => {}
    }
}

/// The present local time, as log lines begin with it. The offset is the C library's: to find the name of the zone, as
/// `jiff` would, takes a search through all zone files, which is too slow for a daemon that takes over running apps.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    let offset = jiff::tz::Offset::from_seconds(clock::local_offset(now.as_second())).unwrap_or(jiff::tz::Offset::UTC);
    now.to_zoned(offset.to_time_zone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        out.write_str(&now())
    }
}

#[derive(Clone)]
struct Queue {
    lines: mpsc::SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Queue;

    fn make_writer(&'a self) -> Queue {
        self.clone()
    }
}

/// The formatter writes one whole line per call.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let mut text = Vec::new();
        if lost > 0 {
            text = format!("({lost} lines were lost here: the log could not be written fast enough)\n").into_bytes();
        }
        text.extend_from_slice(line);
        if self.lines.try_send(text).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks that a daemon could write its log to this path.
pub fn check(path: &Path) -> io::Result<()> {
    rotate::open(path).map(drop)
}
