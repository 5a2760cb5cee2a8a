//! One worker's channel: packets out, packets in.
//!
//! Connections wait here until [`Channel::flush`], so that those dealt at one go travel together. A packet is sent whole
//! or not at all, by a call that never sleeps: a SIGKILL cannot cut it in two. Each connection in it is written down as
//! handed over right before.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use crate::cluster::dealt::write_queue::{Progress, Push, push};
use crate::cluster::persist::store::{Accepted, KeptFd};
use crate::os::killpoint;
use crate::os::net::fdpass;
use crate::os::net::packets;
use crate::os::net::packets::Seen;
use crate::protocol::Run;
use crate::protocol::channel::{self, FromDaemon, MOST, PACKET};

/// Our end of a worker's channel.
#[derive(Debug)]
pub(crate) struct Channel {
    run: Run,
    /// Dropped before the socket.
    kept: RefCell<Option<KeptFd>>,
    socket: AsyncFd<OwnedFd>,
    outgoing: RefCell<VecDeque<Parcel>>,
    /// A task waits to go on writing.
    waiting: Cell<bool>,
}

/// What goes in one packet.
#[derive(Debug)]
enum Parcel {
    Words(Vec<u8>),
    Connections { index: u32, batch: Vec<(u64, Rc<Accepted>)> },
}

/// What a look into the channel brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A packet; there may be more.
    Some,
    /// Nothing now.
    Empty,
    /// The worker's end is closed.
    End,
}

impl Channel {
    /// Takes over our end, of a new pair or from another God. Must be called inside the runtime.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub(crate) fn new(socket: OwnedFd, run: Run, kept: KeptFd) -> io::Result<Rc<Channel>> {
        let (socket, kept) = (fdpass::watch(socket)?, RefCell::new(Some(kept)));
        Ok(Rc::new(Channel { run, kept, socket, outgoing: RefCell::default(), waiting: Cell::new(false) }))
    }

    /// The worker is no more: nobody needs to find this again.
    pub(crate) fn release(&self) {
        drop(self.kept.borrow_mut().take());
    }

    /// Sends something that carries no file, and all that waits before it.
    pub(crate) fn say(self: &Rc<Self>, message: &FromDaemon<'_>) {
        self.outgoing.borrow_mut().push_back(Parcel::Words(message.encode()));
        self.flush();
    }

    /// Adds a connection; it goes with the next [`Channel::flush`].
    pub(crate) fn add(&self, to: u32, number: u64, socket: Rc<Accepted>) {
        let mut outgoing = self.outgoing.borrow_mut();
        match outgoing.back_mut() {
            Some(Parcel::Connections { index, batch }) if *index == to && batch.len() < MOST => {
                batch.push((number, socket));
            }
            _ => outgoing.push_back(Parcel::Connections { index: to, batch: vec![(number, socket)] }),
        }
    }

    /// Forgets a connection that is not sent yet; false if it is on its way.
    pub(crate) fn recall(&self, number: u64) -> bool {
        let mut found = false;
        self.outgoing.borrow_mut().retain_mut(|parcel| match parcel {
            Parcel::Words(_) => true,
            Parcel::Connections { batch, .. } => {
                let before = batch.len();
                batch.retain(|(own, _)| *own != number);
                found |= batch.len() < before;
                !batch.is_empty()
            }
        });
        found
    }

    /// The worker hears no more: what was to be sent is forgotten.
    pub(crate) fn abandon(&self) {
        self.outgoing.borrow_mut().clear();
    }

    /// Waits until there may be something, and looks once.
    pub(crate) async fn read(&self, each: impl FnOnce(&[u8])) -> Read {
        let Ok(mut ready) = self.socket.readable().await else { return Read::End };
        let got = self.read_now(each);
        if got == Read::Empty {
            ready.clear_ready();
        }
        got
    }

    /// Looks once, without waiting. Files that come along are closed.
    pub(crate) fn read_now(&self, each: impl FnOnce(&[u8])) -> Read {
        let mut buffer = [0; PACKET];
        match packets::peek(self.socket.get_ref(), &mut buffer) {
            Ok(Seen::Whole(count)) => each(&buffer[..count]),
            // Nobody knows what that is.
            Ok(Seen::TooLong) => each(&[]),
            Ok(Seen::End) => return Read::End,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Read::Some,
            Err(_) => return Read::End,
        }
        killpoint::pass("heard");
        if packets::take(self.socket.get_ref()).is_err() { Read::End } else { Read::Some }
    }

    /// Sends what waits, now or as soon as the worker reads on.
    pub(crate) fn flush(self: &Rc<Self>) {
        push(self);
    }

    fn send(&self, parcel: &Parcel) -> io::Result<()> {
        match parcel {
            Parcel::Words(packet) => packets::send(&self.socket, packet, &[]),
            Parcel::Connections { index, batch } => {
                let packet = channel::connections(*index, batch.iter().map(|(number, _)| *number));
                let files: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
                batch.iter().for_each(|(number, socket)| socket.is_handed(self.run, *number));
                killpoint::pass("handing");
                let sent = packets::send(&self.socket, &packet, &files)
                    .inspect_err(|_| batch.iter().for_each(|(_, socket)| socket.waits()));
                killpoint::pass("handed");
                sent
            }
        }
    }
}

impl Push for Channel {
    fn socket(&self) -> &AsyncFd<OwnedFd> {
        &self.socket
    }

    fn waiting(&self) -> &Cell<bool> {
        &self.waiting
    }

    fn write(&self) -> Progress {
        let mut outgoing = self.outgoing.borrow_mut();
        while let Some(parcel) = outgoing.front() {
            match self.send(parcel) {
                Ok(()) => drop(outgoing.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Full,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if fdpass::is_shortage(&error) => return Progress::Later,
                // The worker's end is closed. The reader learns it, too, and clears up.
                Err(_) => outgoing.clear(),
            }
        }
        Progress::Done
    }
}
