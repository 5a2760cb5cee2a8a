//! Shared listening sockets and the channels to the workers that share them.
//!
//! A [`Cluster`] belongs to one app. It owns the app's listeners and our end of each worker's channel, accepts
//! connections and passes them to the workers. The workers come and go; the listeners stay.
//!
//! ```text
//!  kernel queue ─► dispatcher ─► rota: whose turn? ─► node/channel ─► worker
//!                      ▲                                   │
//!                      └── refused, dead, out of rotation ◄┘ answers
//! ```
//!
//! The owner tells it who joined, who is about to leave and who is gone; it tells the owner by [`Notice`]s what workers
//! say. All of it runs on one thread, inside a [`tokio::task::LocalSet`].

mod dispatcher;
mod drain;
mod listener;
mod memory;
mod node;
mod probe;
mod record;
mod revival;
mod rota;
mod state;

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use self::memory::Book;
pub use self::memory::{Legacy, Memory, channel_name, record_key};
use self::node::channel::{Channel, Read};
use self::node::reply;
use self::state::State;
use crate::protocol::{ListenerInfo, Run};
use crate::spec::Balance;

/// A module for Node workers (`--require`) that lets keep-alive and HTTP/2 connections end without loss when a worker is
/// drained. Inert in any other process. Plain CommonJS for Node 16 and later.
pub const PRELOAD: &str = include_str!("preload.cjs");

/// How a cluster works.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How connections reach the workers.
    pub balance: Balance,
}

/// What a cluster tells its owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Node is up in the worker; the app's code has not run yet.
    Online {
        /// Who.
        run: Run,
    },
    /// The app listens. Comes for each listener of each worker; not for those it opened past the cluster (`exclusive`).
    Listening {
        /// Who.
        run: Run,
        /// Where: `127.0.0.1:3000`, `[::]:3000`, `/run/x.sock`, `udp 0.0.0.0:53`.
        address: String,
    },
    /// The app called `process.send`.
    Message {
        /// Who.
        run: Run,
        /// With this.
        data: Value,
    },
    /// Our preload is in.
    NodeVersion {
        /// Who.
        run: Run,
        /// `process.version`.
        version: String,
    },
    /// [`Cluster::drain`] has done what it could: the worker has disconnected, or the time is up.
    Drained {
        /// Who.
        run: Run,
    },
    /// The worker closed its channel, or died. Comes before or after the news of its exit.
    Disconnected {
        /// Who.
        run: Run,
    },
}

/// The cluster of one app. Clones are the same cluster. When the last is dropped, its listeners close.
#[derive(Clone, Debug)]
pub struct Cluster {
    state: Rc<RefCell<State>>,
}

impl Cluster {
    /// A cluster without workers or listeners.
    #[must_use]
    pub fn new(options: Options, app: u32, memory: Memory, notices: UnboundedSender<Notice>) -> Cluster {
        Cluster { state: State::new(options.balance, Book { app, memory }, notices) }
    }

    /// The cluster that the God before left, with all it was about to do. What belongs to it is taken out of `legacy`.
    /// What workers told him is told again, as far as it still matters. Must be called inside the runtime's `LocalSet`.
    ///
    /// # Errors
    /// A sentence, if the record makes no sense.
    pub fn revive(
        options: Options,
        app: u32,
        memory: Memory,
        notices: UnboundedSender<Notice>,
        legacy: Legacy<'_>,
    ) -> Result<Cluster, String> {
        let book = Book { app, memory };
        Ok(Cluster { state: revival::revive(options.balance, book, notices, legacy)? })
    }

    /// A worker was started with the other end of `channel` as its IPC descriptor. With `shares` it takes part in the
    /// cluster (it got a `NODE_UNIQUE_ID`); without, it only sends and receives messages.
    ///
    /// Must be called inside the runtime's `LocalSet`.
    pub fn join(&self, run: Run, channel: OwnedFd, shares: bool) {
        let mut state = self.state.borrow_mut();
        let kept = state.book.keep(channel_name(run), &channel);
        match Channel::new(channel, run, kept) {
            Ok(channel) => {
                state.join(run, channel, shares);
                state.note();
            }
            Err(error) => {
                tracing::error!(run = run.0, %error, "cannot watch the IPC channel of a worker: closed");
                state.tell(Notice::Disconnected { run });
            }
        }
    }

    /// Out of rotation at once: no new connection goes to this worker. For one that is about to be stopped: what it
    /// closes from now on stays open for its successor.
    pub fn exclude(&self, run: Run) {
        self.state.borrow_mut().exclude(run);
    }

    /// Out of rotation, and let it finish: its connections end where the protocol allows, then it disconnects. Ends in
    /// one [`Notice::Drained`], after `grace` at the latest, unless [`Cluster::gone`] comes first.
    pub fn drain(&self, run: Run, grace: Duration) {
        self.state.borrow_mut().drain(run, grace);
    }

    /// A message to the app: its `process.on('message')` gets it.
    pub fn send(&self, run: Run, message: &Value) {
        if let Some(member) = self.state.borrow().members.get(&run) {
            member.say(reply::user(message));
        }
    }

    /// The worker's process has ended. What it said last is read, what it had not taken goes to others, then it is
    /// forgotten.
    pub fn gone(&self, run: Run) {
        let Some(channel) = self.state.borrow().members.get(&run).map(|member| Rc::clone(&member.channel)) else {
            return;
        };
        while channel.read_now(|line| self.state.borrow_mut().heard(run, line)) == Read::Some {
            self.state.borrow_mut().lines_taken(run);
        }
        let mut state = self.state.borrow_mut();
        state.ended(run);
        state.members.remove(&run);
        state.note();
        channel.release();
    }

    /// What the app listens on through us.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        self.state.borrow().listeners.values().map(listener::Listener::info).collect()
    }

    /// Connections this worker took so far; those it accepts by itself are not counted.
    #[must_use]
    pub fn connections(&self, run: Run) -> u64 {
        self.state.borrow().members.get(&run).map_or(0, |member| member.connections)
    }

    /// From now on listeners are opened this way; those that are open stay as they are.
    pub fn set_balance(&self, balance: Balance) {
        self.state.borrow_mut().balance = balance;
    }

    /// The app is deleted: its listeners close, socket files are removed, waiting connections are reset.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        let ids: Vec<_> = state.listeners.keys().copied().collect();
        state.close_listeners(&ids);
    }
}

#[cfg(test)]
mod tests;
