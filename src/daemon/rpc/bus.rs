//! Publishes events: each subscriber of `pub.sock` gets one JSON object per line, and so does the history on disk.
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

/// Subscribers served at once. Each takes one of the files that the daemon may open, which apps need, too.
const MAX_SUBSCRIBERS: usize = 256;

/// Subscribers whose connection ended with the God before have connected again after this time.
const RECONNECT: Duration = Duration::from_secs(5);

/// Publishes events to subscribers and to the history.
#[derive(Default)]
pub(crate) struct Bus {
    /// Number of the last event; the first event has number 1.
    seq: u64,
    history: Option<History>,
    subscribers: VecDeque<Subscriber>,
    /// The line that subscribers get first if they connect before this time.
    greeting: Option<(Instant, Arc<str>)>,
    /// The processes that events were about, until they are forgotten: a process that was just removed is in one more
    /// event.
    known: HashMap<ProcessId, EventProcess>,
}

struct Subscriber {
    lines: mpsc::Sender<Arc<str>>,
    /// Events since the last line that fitted.
    lost: u64,
}

impl Bus {
    /// A bus that also writes its events to the history.
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

    /// The process was removed: no more events about it follow.
    pub fn forget(&mut self, id: ProcessId) {
        self.known.remove(&id);
    }

    /// Publishes an event about a process, or about the daemon itself if `process` is `None`.
    pub fn publish(&mut self, process: Option<EventProcess>, kind: EventKind) {
        self.seq += 1;
        self.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        let kept = self.history.as_ref().filter(|_| History::keeps(&kind));
        if self.subscribers.is_empty() && kept.is_none() {
            return;
        }
        let line = line(&Event { seq: self.seq, at: clock::epoch_ms(), process, kind });
        if let Some(history) = kept {
            history.append(&line);
        }
        let seq = self.seq;
        for subscriber in &mut self.subscribers {
            subscriber.offer(seq, &line);
        }
    }

    /// Writes an event to the history, and keeps it as the first line for subscribers that connect within [`RECONNECT`]:
    /// mostly those whose connections ended with the God before.
    pub fn greet_with(&mut self, kind: EventKind) {
        self.seq += 1;
        let line = line(&Event { seq: self.seq, at: clock::epoch_ms(), process: None, kind });
        if let Some(history) = &self.history {
            history.append(&line);
        }
        self.greeting = Some((Instant::now() + RECONNECT, line));
    }

    /// Adds a subscriber and serves it until it hangs up.
    pub fn subscribe(&mut self, stream: UnixStream) {
        self.subscribers.retain(|subscriber| !subscriber.lines.is_closed());
        if self.subscribers.len() >= MAX_SUBSCRIBERS {
            return tracing::warn!(
                "{MAX_SUBSCRIBERS} subscribers get events, the most that are served: the connection of another is closed"
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
        // Room for two lines: the number of lost events is sent just before the next event.
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
            // What a subscriber sends is ignored; reading notices when it hangs up.
            read = from.read(&mut ignored) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            // All lines that wait are sent in one write: one write for each would fall behind a burst of events, which
            // come from this same thread.
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
    async fn a_slow_subscriber_gets_the_number_of_events_it_lost_and_does_not_block_the_bus() {
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
    async fn the_bus_closes_connections_beyond_the_greatest_number_of_subscribers() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut bus = Bus::default();
                for _ in 0..=MAX_SUBSCRIBERS {
                    bus.subscribe(UnixStream::pair().unwrap().0);
                }
                assert_eq!(bus.subscribers.len(), MAX_SUBSCRIBERS);
            })
            .await;
    }

    #[tokio::test]
    async fn a_subscriber_that_hung_up_is_removed() {
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
