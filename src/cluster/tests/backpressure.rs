//! Workers that never come to an end.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::os::net::packets;
use crate::protocol::channel::{FromWorker, VERSION};

/// More than all that can be on its way: read at one go, and let through before.
const BOUND: usize = 20_000;

/// Somebody who writes to a channel as fast as he can, until he is let go of.
struct Babbler {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Babbler {
    fn new(mut speak: impl FnMut() + Send + 'static) -> Babbler {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                speak();
            }
        });
        Babbler { enough, thread: Some(thread) }
    }

    /// In lines, many at a time.
    fn of_lines(channel: OwnedFd) -> Babbler {
        use std::io::Write;
        let mut channel = UnixStream::from(channel);
        channel.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let lines = b"1\n".repeat(8 << 10);
        // One that nobody listens to tries again.
        Babbler::new(move || drop(channel.write_all(&lines)))
    }
}

impl Drop for Babbler {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn one_who_says_more_than_the_owner_takes_in_waits() {
    play(async {
        let mut stage = Stage::new();
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        stage.cluster.join(Run(1), 0, ours, WorkerProtocol::None);
        let babbler = Babbler::of_lines(theirs);
        until("much is told", || stage.notices.len() >= 256).await;
        for _ in 0..3 {
            quiet().await;
            assert!(stage.notices.len() < BOUND, "{} notices wait", stage.notices.len());
            // Whoever takes it in hears on.
            for _ in 0..BOUND {
                assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!(1) });
            }
        }
        drop(babbler);
    });
}

#[test]
fn one_whose_children_talk_on_is_buried_all_the_same() {
    play(async {
        let stage = Stage::new();
        let (ours, theirs) = fdpass::channel_pair().unwrap();
        stage.cluster.join(Run(1), 0, ours, WorkerProtocol::None);
        let _babbler = Babbler::of_lines(theirs);
        stage.cluster.gone(Run(1));
    });
}

#[test]
fn the_same_on_a_channel_of_our_own() {
    play(async {
        let mut stage = Stage::new();
        let (ipc, _theirs) = fdpass::channel_pair().unwrap();
        let (ours, theirs) = packets::pair().unwrap();
        stage.cluster.join(Run(1), 0, ipc, WorkerProtocol::Channel(ours));
        packets::send(&theirs, &FromWorker::Hello { version: VERSION }.encode(), &[]).unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let _babbler = Babbler::new(move || drop(packets::send(&theirs, &FromWorker::Ready.encode(), &[])));
        until("much is told", || stage.notices.len() >= 256).await;
        quiet().await;
        assert!(stage.notices.len() < BOUND, "{} notices wait", stage.notices.len());
        for _ in 0..BOUND {
            assert_eq!(stage.notice().await, Notice::Message { run: Run(1), data: json!("ready") });
        }
        stage.cluster.gone(Run(1));
    });
}

#[test]
fn one_who_listens_here_and_there_is_remembered_once() {
    play(async {
        let mut stage = Stage::new();
        let worker = stage.worker(1);
        let length = |stage: &Stage| stage.records()[&record_key(APP)].len();
        let mut before = 0;
        for port in 10_001..10_020 {
            let said = json!({"act": "listening", "address": "127.0.0.1", "port": port, "addressType": 4, "fd": -1});
            let mut line = json!({"cmd": "NODE_CLUSTER"});
            line.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
            worker.say(&line);
            let address = format!("127.0.0.1:{port}");
            assert_eq!(stage.notice().await, Notice::Listening { run: Run(1), address, accepts: true });
            before = if before == 0 { length(&stage) } else { before };
        }
        assert_eq!(length(&stage), before);
    });
}
