//! The balancer: which worker gets the next connection. PURE: it gets joins, answers and the time as calls, and only
//! decides.
//!
//! Among the workers that serve a listener, the one with the fewest unanswered connections is next; among equals, the
//! one whose last turn is longest ago. So idle workers are served strictly in turn, and a busy one is skipped.
//! With [`Balance::Least`], open connections count as well: a worker on pmr's own channel reports how many it has, and
//! so does the preload module in a Node worker when that is requested. With [`Balance::Sticky`] each client has one
//! worker: the one whose instance number, hashed together with the client, gives the highest number (rendezvous
//! hashing). So a successor inherits the clients of its instance, the clients of an instance that leaves spread over
//! the others, and all other clients keep their worker. If a client's worker is busy, the client waits for it.
//!
//! A worker may hold several unanswered connections only while it answers promptly: one that has been silent for longer
//! than [`MAX_SILENCE`] gets no second. So few connections pile up before a blocked worker, and the rest waits in the
//! kernel. A worker that grants credit never gets more than its credit. An ejected worker is skipped at each listener
//! where a healthy worker has not refused the connection.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::os::net::reuseport::rendezvous::{affinity, scatter};
use crate::protocol::Run;
use crate::spec::Balance;

/// The most connections that a worker may have been sent without answering for them.
pub(crate) const WINDOW: u32 = 4;
/// The same for a worker that grants credit.
pub(crate) const WINDOW_WITH_CREDIT: u32 = 16;
/// A worker that has left a connection unanswered for this long gets no further one.
pub(crate) const MAX_SILENCE: Duration = Duration::from_millis(1);

/// The number of a listener in its cluster. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerId(pub(crate) u64);

/// A hash of the client's address, the same for each of its connections; `None` for a client without an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client(pub(crate) Option<u64>);

impl Client {
    /// The client at this address. An IPv4 address mapped to IPv6 is the same client.
    pub(crate) fn at(address: IpAddr) -> Client {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let [high, low] = [(bits >> 64) as u64, bits as u64];
        Client(Some(scatter(scatter(high) ^ low)))
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This worker gets the connection. The balancer counts it as unanswered.
    To(Run),
    /// No worker has room, or there is none: the connection waits for an answer or for a new worker.
    Wait,
    /// Each worker in rotation has refused the connection.
    AllRefused,
}

/// The policy by which a worker is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) balance: Balance,
    /// The most connections that a worker may have, open and unanswered together; `None` for no limit.
    pub(crate) max_connections: Option<u32>,
}

/// Load of each worker, and who serves which listener. Times are durations since a start of the caller's choice and
/// never go back.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    rules: Rules,
    workers: HashMap<Run, Load>,
    /// Workers that get nothing yet. Some of them have not joined.
    not_ready: HashSet<Run>,
    /// Workers that get nothing where others serve.
    ejected: HashSet<Run>,
    /// The workers that serve each listener.
    serving: HashMap<ListenerId, Vec<Entry>>,
    /// The number of the last turn.
    turn: u64,
}

#[derive(Debug)]
struct Load {
    /// The worker's number among the app's processes: its successor has the same.
    instance: u32,
    excluded: bool,
    /// Open connections, as the worker last reported. 0 if it reports none.
    open: u32,
    unanswered: u32,
    /// The most connections it may have unanswered.
    window: u32,
    /// When it last answered, or was sent the first of those that are unanswered now.
    progress: Duration,
}

impl Load {
    fn new(instance: u32) -> Load {
        Load { instance, excluded: false, open: 0, unanswered: 0, window: WINDOW, progress: Duration::ZERO }
    }

    fn is_free(&self, most: Option<u32>, now: Duration) -> bool {
        let is_prompt = self.unanswered == 0 || now.saturating_sub(self.progress) <= MAX_SILENCE;
        is_prompt && self.unanswered < self.window && most.is_none_or(|most| self.busy_with() < most)
    }

    fn busy_with(&self) -> u32 {
        self.open.saturating_add(self.unanswered)
    }
}

/// A worker that serves a listener.
#[derive(Debug)]
struct Entry {
    run: Run,
    /// The turn of its last connection there; 0 before the first.
    last_turn: u64,
}

impl Balancer {
    /// Changes the policy for all later connections.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// True if the policy needs the number of open connections.
    pub(crate) fn needs_open_count(&self) -> bool {
        self.rules.balance == Balance::Least || self.rules.max_connections.is_some()
    }

    /// Adds a worker, with its number among the app's processes. It serves nothing yet.
    pub(crate) fn join(&mut self, run: Run, instance: u32) {
        self.workers.entry(run).or_insert_with(|| Load::new(instance));
    }

    /// Adds one to the open connections of a worker.
    pub(crate) fn add_open(&mut self, run: Run) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.open = load.open.saturating_add(1);
        }
    }

    /// Sets the open connections of a worker, without those it has not answered for.
    pub(crate) fn set_open(&mut self, run: Run, open: u32) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.open = open;
        }
    }

    /// Sets how many connections the worker may have unanswered.
    pub(crate) fn set_credit(&mut self, run: Run, credit: u32) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.window = credit.min(WINDOW_WITH_CREDIT);
        }
    }

    /// Takes a worker out of rotation for good.
    pub(crate) fn exclude(&mut self, run: Run) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.excluded = true;
        }
    }

    /// The worker gets nothing until it is admitted. It may join and listen before.
    pub(crate) fn mark_not_ready(&mut self, run: Run) {
        self.not_ready.insert(run);
    }

    /// The worker gets nothing that another could have, until it is admitted.
    pub(crate) fn eject(&mut self, run: Run) {
        self.ejected.insert(run);
    }

    /// The worker takes its turns again. True if it was not ready or ejected.
    pub(crate) fn admit(&mut self, run: Run) -> bool {
        let was_not_ready = self.not_ready.remove(&run);
        self.ejected.remove(&run) || was_not_ready
    }

    /// True if the worker was marked as not ready and not admitted since.
    pub(crate) fn is_not_ready(&self, run: Run) -> bool {
        self.not_ready.contains(&run)
    }

    /// True if the worker was ejected and not admitted since.
    pub(crate) fn is_ejected(&self, run: Run) -> bool {
        self.ejected.contains(&run)
    }

    /// True if the worker may be sent one more connection.
    pub(crate) fn has_credit(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|load| load.unanswered < load.window)
    }

    /// Adds connections that the worker has not answered for and that this balancer did not choose it for.
    pub(crate) fn add_unanswered(&mut self, run: Run, unanswered: u32, now: Duration) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.unanswered += unanswered;
            load.progress = now;
        }
    }

    /// Removes a worker.
    pub(crate) fn leave(&mut self, run: Run) {
        self.workers.remove(&run);
        self.admit(run);
        for list in self.serving.values_mut() {
            list.retain(|entry| entry.run != run);
        }
    }

    /// The worker takes connections of this listener from now on.
    pub(crate) fn serve(&mut self, listener: ListenerId, run: Run) {
        let list = self.serving.entry(listener).or_default();
        if list.iter().all(|entry| entry.run != run) {
            list.push(Entry { run, last_turn: 0 });
        }
    }

    /// The worker takes no more connections of this listener.
    pub(crate) fn withdraw(&mut self, listener: ListenerId, run: Run) {
        if let Some(list) = self.serving.get_mut(&listener) {
            list.retain(|entry| entry.run != run);
        }
    }

    /// Removes a listener.
    pub(crate) fn close(&mut self, listener: ListenerId) {
        self.serving.remove(&listener);
    }

    /// True if the worker has joined and is not excluded.
    pub(crate) fn is_included(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|load| !load.excluded)
    }

    /// True if some worker could be sent a new connection of this listener now.
    pub(crate) fn has_room(&self, listener: ListenerId, now: Duration) -> bool {
        self.candidates(listener, &[]).any(|(_, load)| load.is_free(self.rules.max_connections, now))
    }

    /// Chooses the worker for a connection that those in `refused` have refused.
    pub(crate) fn next(&mut self, listener: ListenerId, client: Client, refused: &[Run], now: Duration) -> Next {
        match self.choose(listener, client, refused, now) {
            Some(run) => {
                self.count_turn(listener, run, now);
                Next::To(run)
            }
            None if self.all_refused(listener, refused) => Next::AllRefused,
            None => Next::Wait,
        }
    }

    /// The worker answered for one connection: it took or refused it.
    pub(crate) fn answered(&mut self, run: Run, now: Duration) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.unanswered = load.unanswered.saturating_sub(1);
            load.progress = now;
        }
    }

    fn choose(&self, listener: ListenerId, client: Client, refused: &[Run], now: Duration) -> Option<Run> {
        let is_free = |load: &Load| load.is_free(self.rules.max_connections, now);
        let candidates = self.candidates(listener, refused);
        let chosen = match (self.rules.balance, client) {
            (Balance::Sticky, Client(Some(client))) => candidates
                .max_by_key(|(entry, load)| (affinity(client, load.instance), entry.run))
                .filter(|(_, load)| is_free(load)),
            (Balance::Least, _) => candidates
                .filter(|(_, load)| is_free(load))
                .min_by_key(|(entry, load)| (load.busy_with(), entry.last_turn)),
            (Balance::RoundRobin | Balance::Shared | Balance::Sticky, _) => candidates
                .filter(|(_, load)| is_free(load))
                .min_by_key(|(entry, load)| (load.unanswered, entry.last_turn)),
        };
        chosen.map(|(entry, _)| entry.run)
    }

    fn all_refused(&self, listener: ListenerId, refused: &[Run]) -> bool {
        !refused.is_empty() && self.rotation(listener).all(|(entry, _)| refused.contains(&entry.run))
    }

    fn count_turn(&mut self, listener: ListenerId, run: Run, now: Duration) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(entry) = self.serving.get_mut(&listener).and_then(|list| list.iter_mut().find(|e| e.run == run)) {
            entry.last_turn = turn;
        }
        if let Some(load) = self.workers.get_mut(&run) {
            if load.unanswered == 0 {
                load.progress = now;
            }
            load.unanswered += 1;
        }
    }

    /// The workers that may be sent a connection of this listener that those in `refused` have refused.
    fn candidates(&self, listener: ListenerId, refused: &[Run]) -> impl Iterator<Item = (&Entry, &Load)> {
        let others = move || self.rotation(listener).filter(|(entry, _)| !refused.contains(&entry.run));
        let skip_none = self.ejected.is_empty() || others().all(|(entry, _)| self.ejected.contains(&entry.run));
        others().filter(move |(entry, _)| skip_none || !self.ejected.contains(&entry.run))
    }

    /// The workers in rotation for this listener.
    fn rotation(&self, listener: ListenerId) -> impl Iterator<Item = (&Entry, &Load)> {
        let list = self.serving.get(&listener).map_or(&[][..], Vec::as_slice);
        list.iter()
            .filter_map(|entry| Some((entry, self.workers.get(&entry.run)?)))
            .filter(|(entry, load)| !load.excluded && !self.not_ready.contains(&entry.run))
    }
}

#[cfg(test)]
mod tests;
