//! One worker's channel of pmr's own protocol: packets out, packets in.
//!
//! Connections wait here until [`Channel::flush`], so that those dealt out together are sent together. A packet is
//! sent whole or not at all, by a call that never sleeps: a SIGKILL cannot cut it in two. Each connection in it is
//! marked as handed over right before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use crate::cluster::dealt::write_queue::{Progress, WriteQueue, write_or_schedule};
use crate::cluster::persist::{AcceptedSocket, KeptFd};
use crate::os::killpoint;
use crate::os::net::fdpass;
use crate::os::net::packets;
use crate::os::net::packets::Seen;
use crate::protocol::Run;
use crate::protocol::channel::{self, FromDaemon, MOST, PACKET};

/// The daemon's end of a worker's channel.
#[derive(Debug)]
pub(crate) struct Channel {
    run: Run,
    /// Its entry in the ledger. Dropped before the socket, so that the ledger never names a closed descriptor.
    kept: RefCell<Option<KeptFd>>,
    socket: AsyncFd<OwnedFd>,
    outgoing: RefCell<VecDeque<Packet>>,
    /// A task waits to go on writing.
    has_task: Cell<bool>,
}

/// What is queued for one packet.
#[derive(Debug)]
enum Packet {
    Message(Vec<u8>),
    /// Connections of one listener, named by the number of the worker's request; each with its own number.
    Connections {
        index: u32,
        batch: Vec<(u64, Rc<AcceptedSocket>)>,
    },
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A packet was handled; there may be more.
    Some,
    /// Nothing for now.
    Empty,
    /// The worker's end is closed.
    End,
}

impl Channel {
    /// The daemon's end of a new socket pair, or of a recovered channel. Must be called inside the runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub(crate) fn new(socket: OwnedFd, run: Run, kept: KeptFd) -> io::Result<Rc<Channel>> {
        let (socket, kept) = (fdpass::watch(socket)?, RefCell::new(Some(kept)));
        Ok(Rc::new(Channel { run, kept, socket, outgoing: RefCell::default(), has_task: Cell::new(false) }))
    }

    /// The worker is gone: the next daemon does not need its channel.
    pub(crate) fn release(&self) {
        drop(self.kept.borrow_mut().take());
    }

    /// Sends a message without files, and all that is queued before it.
    pub(crate) fn send_message(self: &Rc<Self>, message: &FromDaemon<'_>) {
        self.outgoing.borrow_mut().push_back(Packet::Message(message.encode()));
        self.flush();
    }

    /// Queues a connection for the listener of this request; it is sent with the next [`Channel::flush`].
    pub(crate) fn add(&self, listener: u32, number: u64, socket: Rc<AcceptedSocket>) {
        let mut outgoing = self.outgoing.borrow_mut();
        match outgoing.back_mut() {
            Some(Packet::Connections { index, batch }) if *index == listener && batch.len() < MOST => {
                batch.push((number, socket));
            }
            _ => outgoing.push_back(Packet::Connections { index: listener, batch: vec![(number, socket)] }),
        }
    }

    /// Cancels a connection that is not sent yet; false if it is in flight.
    pub(crate) fn cancel(&self, number: u64) -> bool {
        let mut found = false;
        self.outgoing.borrow_mut().retain_mut(|packet| match packet {
            Packet::Message(_) => true,
            Packet::Connections { batch, .. } => {
                let before = batch.len();
                batch.retain(|(own, _)| *own != number);
                found |= batch.len() < before;
                !batch.is_empty()
            }
        });
        found
    }

    /// Discards what is queued: the worker reads no more.
    pub(crate) fn discard_queue(&self) {
        self.outgoing.borrow_mut().clear();
    }

    /// Waits until there may be something to read, and reads once.
    pub(crate) async fn read(&self, each: impl FnOnce(&[u8])) -> Read {
        let Ok(mut ready) = self.socket.readable().await else { return Read::End };
        let got = self.read_now(each);
        if got == Read::Empty {
            ready.clear_ready();
        }
        got
    }

    /// Reads once, without waiting. Files that come with a packet are closed.
    pub(crate) fn read_now(&self, each: impl FnOnce(&[u8])) -> Read {
        let mut buffer = [0; PACKET];
        match packets::peek(self.socket.get_ref(), &mut buffer) {
            Ok(Seen::Whole(count)) => each(&buffer[..count]),
            // No message is that long: it is handled as an unreadable one.
            Ok(Seen::TooLong) => each(&[]),
            Ok(Seen::End) => return Read::End,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Read::Some,
            Err(_) => return Read::End,
        }
        killpoint::pass("heard");
        if packets::take(self.socket.get_ref()).is_err() { Read::End } else { Read::Some }
    }

    /// Sends what is queued, now or as soon as the worker reads on.
    pub(crate) fn flush(self: &Rc<Self>) {
        write_or_schedule(self);
    }

    fn send(&self, queued: &Packet) -> io::Result<()> {
        match queued {
            Packet::Message(packet) => packets::send(&self.socket, packet, &[]),
            Packet::Connections { index, batch } => {
                let packet = channel::connections(*index, batch.iter().map(|(number, _)| *number));
                let files: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
                batch.iter().for_each(|(number, socket)| socket.mark_handed(self.run, *number));
                killpoint::pass("handing");
                let sent = packets::send(&self.socket, &packet, &files)
                    .inspect_err(|_| batch.iter().for_each(|(_, socket)| socket.mark_waiting()));
                killpoint::pass("handed");
                sent
            }
        }
    }
}

impl WriteQueue for Channel {
    fn socket(&self) -> &AsyncFd<OwnedFd> {
        &self.socket
    }

    fn has_task(&self) -> &Cell<bool> {
        &self.has_task
    }

    fn write(&self) -> Progress {
        let mut outgoing = self.outgoing.borrow_mut();
        while let Some(packet) = outgoing.front() {
            match self.send(packet) {
                Ok(()) => drop(outgoing.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::SocketFull,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if fdpass::is_shortage(&error) => return Progress::RetryLater,
                // The worker's end is closed. The reader of the channel finds that out, too, and cleans up.
                Err(_) => outgoing.clear(),
            }
        }
        Progress::Done
    }
}
