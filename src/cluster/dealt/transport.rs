//! How a worker gets its connections. Whatever the road, a connection stays open with us until the worker has said that
//! it has it; what waits on the road can be called back; and a road taken over from another God begins with a question
//! that shows what was on it.

use std::rc::Rc;

use tokio_util::task::AbortOnDropHandle;

use super::channel::packets;
use super::listener::Listener;
use super::node::outgoing::Cargo;
use super::node::reply;
use super::state::{Connection, Member};
use crate::protocol::Run;
use crate::protocol::channel::FromDaemon;

/// The road by which connections get to a worker.
#[derive(Debug)]
pub(crate) enum Transport {
    /// None of ours: it listens by itself, or not at all.
    Apart,
    /// Its IPC channel, by Node's cluster protocol.
    Node,
    /// A channel of pmr's own.
    Own(Own),
}

/// A worker's channel of pmr's own, and how that stands.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) channel: Rc<packets::Channel>,
    /// It said hello in a version we speak. Until then it is one that listens by itself.
    pub(crate) greeted: bool,
    /// The token of a SYNC that is not answered yet.
    pub(crate) asked: Option<u64>,
    pub(crate) _reader: AbortOnDropHandle<()>,
}

impl Transport {
    /// The channel of pmr's own, if there is one.
    pub(crate) fn own(&self) -> Option<&Own> {
        match self {
            Transport::Own(own) => Some(own),
            Transport::Apart | Transport::Node => None,
        }
    }

    /// The same, to change what is known of it.
    pub(crate) fn own_mut(&mut self) -> Option<&mut Own> {
        match self {
            Transport::Own(own) => Some(own),
            Transport::Apart | Transport::Node => None,
        }
    }
}

impl Member {
    /// True if connections are dealt to it.
    pub(crate) fn shares(&self) -> bool {
        match &self.line {
            Transport::Apart => false,
            Transport::Node => true,
            Transport::Own(own) => own.greeted,
        }
    }

    /// Hands over a connection. On some lines it goes with the next [`Member::flush`].
    pub(crate) fn hand(&mut self, run: Run, listener: &Listener, connection: Connection) {
        self.be_sure();
        let seq = self.next_seq();
        let socket = Rc::clone(&connection.socket);
        match &self.line {
            // The balancer knows no such worker.
            Transport::Apart => {}
            Transport::Node => {
                let line = reply::new_connection(&listener.key, seq);
                self.ipc.send(line, Some(Cargo::Connection { socket, seq }));
            }
            Transport::Own(own) => own.channel.add(listener.number_for(run), seq, socket),
        }
        self.pending.push((seq, connection));
    }

    /// Sends what was handed over and waits for company.
    pub(crate) fn flush(&self) {
        if let Transport::Own(own) = &self.line {
            own.channel.flush();
        }
    }

    /// Forgets a connection that is not sent yet; false if it is on its way.
    pub(crate) fn recall(&self, seq: u64) -> bool {
        match &self.line {
            Transport::Apart => false,
            Transport::Node => self.ipc.recall(seq),
            Transport::Own(own) => own.channel.recall(seq),
        }
    }

    /// The worker hears no more.
    pub(crate) fn abandon(&self) {
        self.ipc.abandon();
        if let Transport::Own(own) = &self.line {
            own.channel.abandon();
        }
    }

    /// Nobody needs to find its channels again.
    pub(crate) fn release(&self) {
        self.ipc.release();
        if let Transport::Own(own) = &self.line {
            own.channel.release();
        }
    }

    /// Asks the question that a line taken over begins with, if it was not asked yet.
    pub(crate) fn be_sure(&mut self) {
        if self.ipc.is_unsure() && matches!(self.line, Transport::Node) {
            let seq = self.next_seq();
            self.ipc.ask(seq);
        }
    }

    /// A successor asks how its worker stands.
    pub(crate) fn ask_anew(&mut self) {
        let token = self.next_seq();
        if let Transport::Own(own) = &mut self.line {
            own.asked = Some(token);
            own.channel.say(&FromDaemon::Sync { token });
        }
    }
}
