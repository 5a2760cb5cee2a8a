//! Events out: each subscriber of `pub.sock` gets one JSON object per line, and so does the history on disk.
//!
//! Publishing never waits. A subscriber that does not keep up loses events, and the next line it gets says how many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::super::disk::history::History;
use super::super::disk::log;
use crate::os::clock;
use crate::protocol::event::EventProcess;
use crate::protocol::{Event, EventKind};
use crate::supervisor::{ProcessId, Supervisor};

/// Events a subscriber may be behind before it loses some; as many again may be on their way. With a typical event of
/// 150 bytes that bounds its cost to us at about 100 KB.
const BACKLOG: usize = 256;

/// Subscribers served at once. Each takes one of the files we may open, which apps need, too.
const MOST_SUBSCRIBERS: usize = 256;

/// Subscribers that lost their connection with the daemon before have come back after this time.
const RECONNECT: Duration = Duration::from_secs(5);

/// Publishes events to subscribers and to the history.
#[derive(Default)]
pub(crate) struct Bus {
    /// Number of the last event.
    seq: u64,
    history: Option<History>,
    subscribers: VecDeque<Subscriber>,
    /// The first line of subscribers that connect before this time.
    greeting: Option<(Instant, Arc<str>)>,
    /// The processes that events were about, until they are forgotten: a process that was just removed is in one more
    /// event.
    known: HashMap<ProcessId, EventProcess>,
}

struct Subscriber {
    lines: mpsc::Sender<Arc<str>>,
    lost: u64,
}

impl Bus {
    /// A bus whose events go to the history, too.
    #[must_use]
    pub fn with_history(history: History) -> Bus {
        Bus { history: Some(history), ..Bus::default() }
    }

    /// Publishes an event about a process, and writes it to the log if operators look for it there.
    pub fn publish_about(&mut self, id: ProcessId, kind: EventKind, supervisor: &Supervisor) {
        let now = supervisor.process(id).and_then(|process| {
            let spec = &supervisor.app(process.app)?.spec;
            Some(EventProcess { id: id.0, name: spec.name.clone(), namespace: spec.namespace.clone() })
        });
        self.known.extend(now.map(|about| (id, about)));
        let about = self.known.get(&id).cloned();
        if let Some(about) = &about {
            log::event(about, &kind);
        }
        self.publish(about, kind);
    }

    /// No event about this process comes any more.
    pub fn forget(&mut self, id: ProcessId) {
        self.known.remove(&id);
    }

    /// Publishes an event, about a process or about the daemon.
    pub fn publish(&mut self, process: Option<EventProcess>, kind: EventKind) {
        self.seq += 1;
        self.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        let kept = self.history.as_ref().filter(|_| History::keeps(&kind));
        if self.subscribers.is_empty() && kept.is_none() {
            return;
        }
        let line = line(&Event { seq: self.seq, at: clock::epoch_ms(), process, kind });
        if let Some(history) = kept {
            history.note(&line);
        }
        let seq = self.seq;
        for subscriber in &mut self.subscribers {
            subscriber.offer(seq, &line);
        }
    }

    /// Writes an event to the history, and keeps it as the first line for subscribers that connect soon: those of the
    /// daemon before, above all, whose connections ended with it.
    pub fn greet_with(&mut self, kind: EventKind) {
        self.seq += 1;
        let line = line(&Event { seq: self.seq, at: clock::epoch_ms(), process: None, kind });
        if let Some(history) = &self.history {
            history.note(&line);
        }
        self.greeting = Some((Instant::now() + RECONNECT, line));
    }

    /// A new subscriber, served until it goes away.
    pub fn subscribe(&mut self, stream: UnixStream) {
        self.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        if self.subscribers.len() >= MOST_SUBSCRIBERS {
            return tracing::warn!(
                "{MOST_SUBSCRIBERS} listen to events, as many as are served: one more is hung up on"
            );
        }
        let (lines, queue) = mpsc::channel(BACKLOG);
        let mut subscriber = Subscriber { lines, lost: 0 };
        self.greeting.take_if(|(until, _)| *until < Instant::now());
        if let Some((_, line)) = &self.greeting {
            subscriber.offer(self.seq, line);
        }
        self.subscribers.push_back(subscriber);
        // Ends when the peer hangs up, or when the bus is dropped.
        tokio::task::spawn_local(serve(stream, queue));
    }
}

impl Subscriber {
    fn offer(&mut self, seq: u64, line: &Arc<str>) {
        // Room for two: a reader that lost events is told so just before it gets the next one.
        if self.lost > 0 && self.lines.capacity() >= 2 {
            let kind = EventKind::Lost { count: std::mem::take(&mut self.lost) };
            let notice = self::line(&Event { seq, at: clock::epoch_ms(), process: None, kind });
            let _ = self.lines.try_send(notice);
        }
        if self.lost > 0 || self.lines.try_send(Arc::clone(line)).is_err() {
            self.lost += 1;
        }
    }
}

fn line(event: &Event) -> Arc<str> {
    let mut text = serde_json::to_string(event).unwrap_or_default();
    text.push('\n');
    text.into()
}

async fn serve(stream: UnixStream, mut queue: mpsc::Receiver<Arc<str>>) {
    let (mut from, mut to) = stream.into_split();
    let mut ignored = [0; 512];
    let (mut lines, mut text) = (Vec::with_capacity(BACKLOG), String::new());
    loop {
        tokio::select! {
            // What a subscriber sends is ignored, but its hang-up is not.
            read = from.read(&mut ignored) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            // All lines that wait go out in one write: one at a time falls behind a burst on this same thread.
            taken = queue.recv_many(&mut lines, BACKLOG) => {
                text.clear();
                lines.drain(..).for_each(|line: Arc<str>| text.push_str(&line));
                if taken == 0 || to.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};

    async fn next(reader: &mut BufReader<UnixStream>) -> Event {
        let mut text = String::new();
        reader.read_line(&mut text).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_events_it_lost_and_holds_up_nobody() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut bus = Bus::default();
                let (ours, theirs) = UnixStream::pair().unwrap();
                bus.subscribe(ours);
                for _ in 0..1000 {
                    bus.publish(None, EventKind::Saved);
                }
                let mut reader = BufReader::new(theirs);
                for seq in 1..=BACKLOG as u64 {
                    assert_eq!(next(&mut reader).await.seq, seq);
                }
                bus.publish(None, EventKind::ShuttingDown);
                let event = next(&mut reader).await;
                assert_eq!(event.kind, EventKind::Lost { count: 1000 - BACKLOG as u64 });
                assert_eq!(next(&mut reader).await.kind, EventKind::ShuttingDown);
            })
            .await;
    }

    #[tokio::test]
    async fn there_are_no_more_readers_than_are_served() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut bus = Bus::default();
                for _ in 0..=MOST_SUBSCRIBERS {
                    bus.subscribe(UnixStream::pair().unwrap().0);
                }
                assert_eq!(bus.subscribers.len(), MOST_SUBSCRIBERS);
            })
            .await;
    }

    #[tokio::test]
    async fn a_reader_that_left_is_forgotten() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut bus = Bus::default();
                let (ours, theirs) = UnixStream::pair().unwrap();
                bus.subscribe(ours);
                drop(theirs);
                while !bus.subscribers.is_empty() {
                    bus.publish(None, EventKind::Saved);
                    tokio::task::yield_now().await;
                }
            })
            .await;
    }
}
