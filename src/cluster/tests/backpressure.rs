//! Workers that send without end.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::os::net::packets;
use crate::protocol::channel::{FromWorker, VERSION};

/// More notices than can wait: those of one read, and those that were let through before.
const BOUND: usize = 20_000;

/// A thread that writes to a channel as fast as it can, until it is dropped.
struct Babbler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Babbler {
    fn new(mut write_once: impl FnMut() + Send + 'static) -> Babbler {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                write_once();
            }
        });
        Babbler { stop, thread: Some(thread) }
    }

    /// Writes lines, many at a time.
    fn of_lines(channel: OwnedFd) -> Babbler {
        use std::io::Write;
        let mut channel = UnixStream::from(channel);
        channel.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let lines = b"1\n".repeat(8 << 10);
        // A write fails while the channel is full. It is tried again.
        Babbler::new(move || drop(channel.write_all(&lines)))
    }
}

impl Drop for Babbler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_worker_that_sends_more_than_the_owner_handles_must_wait() {
    play(async {
        let mut stage = Stage::new();
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        stage.cluster.join(Run(1), 0, ours, WorkerProtocol::None);
        let babbler = Babbler::of_lines(theirs);
        until("many notices wait", || stage.notices.len() >= 256).await;
        for _ in 0..3 {
            settle().await;
            assert!(stage.notices.len() < BOUND, "{} notices wait", stage.notices.len());
            // When the owner has handled them, more come.
            for _ in 0..BOUND {
                assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!(1) });
            }
        }
        drop(babbler);
    });
}

#[test]
fn a_worker_is_removed_though_its_children_keep_writing() {
    play(async {
        let stage = Stage::new();
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        stage.cluster.join(Run(1), 0, ours, WorkerProtocol::None);
        let _babbler = Babbler::of_lines(theirs);
        stage.cluster.gone(Run(1));
    });
}

#[test]
fn a_worker_on_pmrs_own_channel_must_wait_and_is_removed_too() {
    play(async {
        let mut stage = Stage::new();
        let (ipc, _theirs) = fdpass::channel_pair().unwrap();
        let (ours, theirs) = packets::pair().unwrap();
        stage.cluster.join(Run(1), 0, ipc, WorkerProtocol::Channel(ours));
        packets::send(&theirs, &FromWorker::Hello { version: VERSION }.encode(), &[]).unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let _babbler = Babbler::new(move || drop(packets::send(&theirs, &FromWorker::Ready.encode(), &[])));
        until("many notices wait", || stage.notices.len() >= 256).await;
        settle().await;
        assert!(stage.notices.len() < BOUND, "{} notices wait", stage.notices.len());
        for _ in 0..BOUND {
            assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!("ready") });
        }
        stage.cluster.gone(Run(1));
    });
}

#[test]
fn the_record_keeps_one_address_of_a_worker_that_listens_on_many() {
    play(async {
        let mut stage = Stage::new();
        let worker = stage.worker(1);
        let length = |stage: &Stage| stage.records()[&record_key(APP)].len();
        let mut before = 0;
        for port in 10_001..10_020 {
            let listening =
                json!({"act": "listening", "address": "127.0.0.1", "port": port, "addressType": 4, "fd": -1});
            let mut line = json!({"cmd": "NODE_CLUSTER"});
            line.as_object_mut().unwrap().extend(listening.as_object().unwrap().clone());
            worker.send(&line);
            let address = format!("127.0.0.1:{port}");
            assert_eq!(stage.notice().await, Notice::Listening { run: Run(1), address, accepts: true });
            before = if before == 0 { length(&stage) } else { before };
        }
        assert_eq!(length(&stage), before);
    });
}
