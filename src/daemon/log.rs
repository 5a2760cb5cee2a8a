//! The daemon's own log: `pmr.log`, rotated at 10 MB with three old ones kept.
//!
//! Lines go through a bounded queue to a thread of their own, so a slow disk never holds up the God task; what does not
//! fit is counted and said.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::protocol::EventKind;
use crate::protocol::event::EventProcess;
use crate::supervisor::restart::in_words;

const LARGEST: u64 = 10 << 20;
const KEPT: u32 = 3;
const QUEUED_LINES: usize = 1024;

/// Sends everything that is traced from now on to `path`. Nothing is traced before this.
pub fn start(path: &Path) -> io::Result<()> {
    let mut file = Rotating::open(path.to_owned())?;
    let (lines, queue) = mpsc::sync_channel::<Vec<u8>>(QUEUED_LINES);
    std::thread::Builder::new().name("log".into()).stack_size(64 << 10).spawn(move || {
        for line in queue {
            // A log that cannot be written has nowhere to complain.
            let _ = file.write(&line);
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
        EventKind::OverMemory { bytes, limit } => {
            tracing::warn!("{who} uses {bytes} bytes of memory, more than its limit of {limit}: it is replaced");
        }
        EventKind::Deleted => tracing::info!("{who} was deleted"),
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

struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{}", jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
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

struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Rotating {
    fn open(path: PathBuf) -> io::Result<Rotating> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Rotating { path, file, size })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size > LARGEST {
            self.rotate()?;
        }
        self.size += line.len() as u64;
        self.file.write_all(line)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| self.path.with_extension(format!("log.{number}"));
        for number in (1..KEPT).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&self.path, numbered(1))?;
        *self = Rotating::open(self.path.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rotates_and_keeps_three() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmr.log");
        let mut log = Rotating::open(path.clone()).unwrap();
        for round in 0..6 {
            log.write(format!("round {round}\n").as_bytes()).unwrap();
            log.size = LARGEST + 1;
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("pmr.log"), "round 5\n");
        assert_eq!(read("pmr.log.1"), "round 4\n");
        assert_eq!(read("pmr.log.3"), "round 2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}
