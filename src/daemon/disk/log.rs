//! The daemon's own log: `pmr.log`, rotated at 10 MB with three old ones kept.
//!
//! Lines go through a bounded queue to a thread of their own, so a slow disk never holds up the God task; what does not
//! fit is counted and said.

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

const LARGEST: u64 = 10 << 20;
const KEPT: u32 = 3;
const QUEUED_LINES: usize = 1024;

/// Sends everything that is traced from now on to `path`, as soon as that can be written. Nothing is traced before this.
///
/// # Errors
/// When there can be no thread for it.
pub fn start(path: &Path) -> io::Result<()> {
    let mut file = Rotating::new(path.to_owned(), LARGEST, KEPT);
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

/// What an operator wants to find in the daemon's log.
pub fn event(about: &EventProcess, kind: &EventKind) {
    let who = format_args!("{} ({})", about.name, about.id);
    match kind {
        EventKind::Started { pid } => tracing::info!("{who} started as pid {pid}"),
        EventKind::Exited { exit, expected: true } => tracing::info!("{who} was told to stop, and {}", in_words(*exit)),
        EventKind::Exited { exit, expected: false } => tracing::warn!("{who} {}", in_words(*exit)),
        EventKind::StartFailed { error } => tracing::warn!("{who} could not be started: {error}"),
        EventKind::Errored { reason } => tracing::error!("{who} {reason}"),
        EventKind::Unhealthy { reason } => tracing::warn!("{who} is unhealthy: {reason}"),
        EventKind::Healthy => tracing::info!("{who} is healthy again"),
        EventKind::Canary { duration_ms } => tracing::info!("{who} is a canary, watched for {duration_ms} ms"),
        EventKind::RollingBack { reason } => tracing::warn!("{who} goes back to the release before: {reason}"),
        EventKind::NotReplaced { reason, .. } => tracing::warn!("{who} could not be replaced: {reason}"),
        EventKind::TakenBack => tracing::warn!("{who} is taken back to the release before"),
        EventKind::OverMemory { bytes, limit } => {
            tracing::warn!("{who} uses {bytes} bytes of memory, more than its limit of {limit}: it is replaced");
        }
        EventKind::Requested { verb, by } => {
            tracing::info!("{who}: `{verb}` asked by user {}, pid {} ({})", by.uid, by.pid, by.command);
        }
        EventKind::Deleted => tracing::info!("{who} was deleted"),
        EventKind::Completed => tracing::info!("{who} has done what it was for"),
        EventKind::Held { why } => tracing::info!("{who} {why}"),
        EventKind::Idle => tracing::info!("{who} is at rest: the next connection starts it"),
        EventKind::Hung { timeout_ms: 0 } => tracing::warn!("{who} said that it hung: it is started again"),
        EventKind::Hung { timeout_ms } => {
            tracing::warn!("{who} has not said for {timeout_ms} ms that it is alive: it is started again");
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

/// The time as lines begin with it. By the C library's zone: to find its name, as others do, takes a walk through all the
/// zones there are, and a daemon that takes over has no time for that.
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

/// The formatter hands over one whole line per call.
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

/// True if a daemon could write its log there.
pub fn check(path: &Path) -> io::Result<()> {
    rotate::open(path).map(drop)
}
