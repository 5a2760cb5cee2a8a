//! How children ended: from the keeper, which reaps them, to God, which acts on it.
//!
//! The socket between the two holds what no God has taken yet, also for the next God. God reads a message first and
//! removes it after it has acted on it, so no exit is lost with a God. A God may see an exit that its predecessor
//! has acted on. That does no harm, since the run it belonged to has ended by then.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use tokio::io::unix::AsyncFd;

use crate::os::net::fdpass;
use crate::os::process::reap::Ended;

/// Pid of a child that was reaped, and how it ended.
pub type Exit = (i32, Ended);

/// Exits in one message at most.
const AT_ONCE: usize = 64;
/// Bytes of one exit: pid, 0 for a code and 1 for a signal, the code or signal; each an i32 LE.
const ENTRY: usize = 12;
/// Most exits that the keeper holds in memory while the socket is full.
const KEPT: usize = 1 << 16;

/// A new socket pair: God's end, and the keeper's.
///
/// # Errors
/// `EMFILE`, `ENFILE`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// The keeper's end: exits go in.
#[derive(Debug)]
pub struct Outbox {
    socket: OwnedFd,
    unsent: VecDeque<Exit>,
    forgotten: u64,
}

impl Outbox {
    /// An outbox without exits.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Outbox {
        Outbox { socket, unsent: VecDeque::new(), forgotten: 0 }
    }

    /// Adds an exit. Beyond a bound, which only a machine full of dying processes without a God reaches, the oldest
    /// exit is forgotten. The next God then finds that the process is gone, but not how it ended.
    pub fn add(&mut self, exit: Exit) {
        if self.unsent.len() == KEPT {
            self.unsent.pop_front();
            self.forgotten += 1;
        }
        self.unsent.push_back(exit);
    }

    /// Sends as many exits as the socket has room for. True if none is left.
    pub fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            let count = self.unsent.len().min(AT_ONCE);
            let message: Vec<u8> = self.unsent.iter().take(count).flat_map(|exit| encode(*exit)).collect();
            if send(&self.socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
                return false;
            }
            self.unsent.drain(..count);
        }
        true
    }

    /// How many exits were forgotten since this keeper began.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// God's end: exits come out.
#[derive(Debug)]
pub struct Inbox {
    socket: AsyncFd<OwnedFd>,
}

impl Inbox {
    /// An inbox around God's end of the socket pair. Must be called inside the runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn new(socket: OwnedFd) -> io::Result<Inbox> {
        Ok(Inbox { socket: fdpass::watch(socket)? })
    }

    /// Waits for a message and returns the exits in the oldest one, which stays in the socket until [`Inbox::take`].
    pub async fn wait(&self) -> Vec<Exit> {
        loop {
            let Ok(mut ready) = self.socket.readable().await else { return std::future::pending().await };
            match self.peek() {
                Some(exits) => return exits,
                None => ready.clear_ready(),
            }
        }
    }

    /// The exits in the oldest message, if there is one. Does not wait, and takes nothing away.
    #[must_use]
    pub fn peek(&self) -> Option<Vec<Exit>> {
        let mut message = [0; AT_ONCE * ENTRY];
        let count = recv(self.socket.as_fd(), &mut message, RecvFlags::PEEK | RecvFlags::DONTWAIT).ok()?.0;
        (count > 0).then(|| message[..count].as_chunks().0.iter().map(decode).collect())
    }

    /// Removes the oldest message from the socket.
    pub fn take(&self) {
        let mut nothing = [0; 1];
        // Cannot fail after `wait` or `peek`: no other reader takes messages.
        let _ = recv(self.socket.as_fd(), &mut nothing, RecvFlags::DONTWAIT | RecvFlags::TRUNC);
    }
}

fn encode((pid, ended): Exit) -> [u8; ENTRY] {
    let (kind, value) = match ended {
        Ended::Code(code) => (0, code),
        Ended::Signal(number) => (1, number),
    };
    let mut entry = [0; ENTRY];
    for (at, number) in [pid, kind, value].into_iter().enumerate() {
        entry[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
    }
    entry
}

fn decode(entry: &[u8; ENTRY]) -> Exit {
    let number = |at: usize| i32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
    let ended = if number(4) == 0 { Ended::Code(number(8)) } else { Ended::Signal(number(8)) };
    (number(0), ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exits_wait_until_they_are_taken_and_arrive_in_order() {
        let (theirs, ours) = pair().unwrap();
        let mut outbox = Outbox::new(ours);
        outbox.add((7, Ended::Code(3)));
        outbox.add((8, Ended::Signal(9)));
        assert!(outbox.flush());
        outbox.add((9, Ended::Code(0)));
        assert!(outbox.flush());
        let second = theirs.try_clone().unwrap();
        let first_reader = Inbox::new(theirs).unwrap();
        let first = vec![(7, Ended::Code(3)), (8, Ended::Signal(9))];
        assert_eq!(first_reader.wait().await, first);
        drop(first_reader);
        let successor = Inbox::new(second).unwrap();
        assert_eq!(successor.wait().await, first, "the first reader died before it took them");
        successor.take();
        assert_eq!(successor.wait().await, [(9, Ended::Code(0))]);
        successor.take();
        assert_eq!(successor.peek(), None);
    }

    #[tokio::test]
    async fn without_a_reader_exits_are_kept_up_to_a_bound() {
        let (theirs, ours) = pair().unwrap();
        let mut outbox = Outbox::new(ours);
        for pid in 0..(KEPT as i32 * 2) {
            outbox.add((pid, Ended::Code(0)));
            if pid % 1000 == 0 {
                outbox.flush();
            }
        }
        assert!(!outbox.flush(), "the socket is full");
        assert!(outbox.unsent.len() <= KEPT && outbox.forgotten() > 0);
        let inbox = Inbox::new(theirs).unwrap();
        let mut last = -1;
        while let Some(exits) = inbox.peek() {
            for (pid, _) in exits {
                assert!(pid > last);
                last = pid;
            }
            inbox.take();
            outbox.flush();
        }
        assert_eq!(last, KEPT as i32 * 2 - 1);
    }
}
