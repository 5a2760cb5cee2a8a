//! Who gets the next connection. Pure: told of joins, answers and the time, it only decides.
//!
//! Among the workers that serve a listener, the one with the fewest unanswered connections is next; among equals, the
//! one that has waited longest for its turn. So idle workers are served strictly in turn, and a busy one is passed over.
//! With [`Balance::Least`], connections that are open count as well: a worker on pmr's own channel tells how many it
//! has, and so does our preload in a Node worker when that is asked for. With [`Balance::Sticky`] each client has a worker
//! of its own: that whose instance number, hashed together with the client, gives the highest number (rendezvous
//! hashing). So a successor inherits the clients of the instance, and those of one that leaves spread over the others,
//! while nobody else's change. If that worker is busy, the client waits for it.
//!
//! A worker may hold several unanswered connections only while it answers promptly: one that is silent for longer than
//! [`PATIENCE`] gets no second, so what piles up before a blocked worker stays small and the rest waits in the kernel.
//! A worker that grants credit is never given more than that. One that is unwell is passed over at each listener where
//! another can be asked.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::os::net::reuseport::rendezvous::{affinity, scatter};
use crate::protocol::Run;
use crate::spec::Balance;

/// The most connections a worker may have been sent and not answered for.
pub(crate) const WINDOW: u32 = 4;
/// The same for one that says how many it is ready for.
pub(crate) const WINDOW_WITH_CREDIT: u32 = 16;
/// A worker with something unanswered for this long gets nothing more.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1);

/// One listener of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerId(pub(crate) u64);

/// Who a connection comes from, as a number that is the same each time; none for a nameless one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client(pub(crate) Option<u64>);

impl Client {
    /// By its address, written in IPv6 or not.
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
    /// It is this worker's; the balancer counts it as handed over.
    To(Run),
    /// Those who might take it are busy, or there are none: it waits for an answer or a newcomer.
    Wait,
    /// Everybody in rotation has turned it down.
    AllRefused,
}

/// By what a worker is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) balance: Balance,
    /// The most connections a worker may have, as far as is known.
    pub(crate) max_connections: Option<u32>,
}

/// Times are durations since a start of the caller's choice and never go back.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    rules: Rules,
    workers: HashMap<Run, Load>,
    /// Those who get nothing yet; some of them have not joined.
    not_ready: HashSet<Run>,
    /// Those who get nothing where others serve.
    aside: HashSet<Run>,
    lists: HashMap<ListenerId, Vec<Entry>>,
    turn: u64,
}

#[derive(Debug)]
struct Load {
    /// Its number among the app's processes: a successor has the same.
    instance: u32,
    excluded: bool,
    /// Connections it has, if it tells.
    open: u32,
    unanswered: u32,
    /// The most it may have unanswered.
    window: u32,
    /// When it last answered, or was given the first of what is unanswered now.
    progress: Duration,
}

impl Load {
    fn new(instance: u32) -> Load {
        Load { instance, excluded: false, open: 0, unanswered: 0, window: WINDOW, progress: Duration::ZERO }
    }

    fn is_free(&self, most: Option<u32>, now: Duration) -> bool {
        let is_prompt = self.unanswered == 0 || now.saturating_sub(self.progress) <= PATIENCE;
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
    last: u64,
}

impl Balancer {
    /// From now on workers are chosen by these.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// True if it matters how many connections a worker has open.
    pub(crate) fn goes_by_open(&self) -> bool {
        self.rules.balance == Balance::Least || self.rules.max_connections.is_some()
    }

    /// A worker is there, in the place of this number among the app's processes. It serves nothing yet.
    pub(crate) fn join(&mut self, run: Run, instance: u32) {
        self.workers.entry(run).or_insert_with(|| Load::new(instance));
    }

    /// The worker has one more connection open.
    pub(crate) fn took(&mut self, run: Run) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.open = load.open.saturating_add(1);
        }
    }

    /// The worker has so many connections open beside those it has not answered for.
    pub(crate) fn opened(&mut self, run: Run, open: u32) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.open = open;
        }
    }

    /// The worker is ready for so many at once beside those it has answered for.
    pub(crate) fn grant(&mut self, run: Run, credit: u32) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.window = credit.min(WINDOW_WITH_CREDIT);
        }
    }

    /// From now on this worker gets nothing, whatever it serves.
    pub(crate) fn exclude(&mut self, run: Run) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.excluded = true;
        }
    }

    /// This worker gets nothing until it is admitted, though it may join and listen before.
    pub(crate) fn mark_not_ready(&mut self, run: Run) {
        self.not_ready.insert(run);
    }

    /// This worker gets nothing that another could have, until it is admitted.
    pub(crate) fn eject(&mut self, run: Run) {
        self.aside.insert(run);
    }

    /// It takes its part. True if it did not.
    pub(crate) fn admit(&mut self, run: Run) -> bool {
        let was_withheld = self.not_ready.remove(&run);
        self.aside.remove(&run) || was_withheld
    }

    /// True if it was not_ready and not admitted.
    pub(crate) fn is_not_ready(&self, run: Run) -> bool {
        self.not_ready.contains(&run)
    }

    /// True if it is passed over.
    pub(crate) fn is_aside(&self, run: Run) -> bool {
        self.aside.contains(&run)
    }

    /// True if the worker is ready for one more.
    pub(crate) fn has_credit(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|load| load.unanswered < load.window)
    }

    /// The worker has so many connections unanswered, given to it by another God.
    pub(crate) fn resume(&mut self, run: Run, unanswered: u32, now: Duration) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.unanswered += unanswered;
            load.progress = now;
        }
    }

    /// The worker is no more.
    pub(crate) fn leave(&mut self, run: Run) {
        self.workers.remove(&run);
        self.admit(run);
        for list in self.lists.values_mut() {
            list.retain(|entry| entry.run != run);
        }
    }

    /// The worker takes connections of this listener.
    pub(crate) fn serve(&mut self, listener: ListenerId, run: Run) {
        let list = self.lists.entry(listener).or_default();
        if list.iter().all(|entry| entry.run != run) {
            list.push(Entry { run, last: 0 });
        }
    }

    /// The worker takes no more connections of this listener.
    pub(crate) fn withdraw(&mut self, listener: ListenerId, run: Run) {
        if let Some(list) = self.lists.get_mut(&listener) {
            list.retain(|entry| entry.run != run);
        }
    }

    /// The listener is no more.
    pub(crate) fn close(&mut self, listener: ListenerId) {
        self.lists.remove(&listener);
    }

    /// True if this worker is in rotation somewhere.
    pub(crate) fn rotates(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|load| !load.excluded)
    }

    /// True if a new connection of this listener could be handed over now.
    pub(crate) fn has_room(&self, listener: ListenerId, now: Duration) -> bool {
        self.able(listener, &[]).any(|(_, load)| load.is_free(self.rules.max_connections, now))
    }

    /// Chooses for a connection that the workers in `refused` have turned down.
    pub(crate) fn next(&mut self, listener: ListenerId, client: Client, refused: &[Run], now: Duration) -> Next {
        match self.choose(listener, client, refused, now) {
            Some(run) => {
                self.hand(listener, run, now);
                Next::To(run)
            }
            None if self.all_refused(listener, refused) => Next::AllRefused,
            None => Next::Wait,
        }
    }

    /// The worker answered for one connection, taking or refusing it.
    pub(crate) fn answered(&mut self, run: Run, now: Duration) {
        if let Some(load) = self.workers.get_mut(&run) {
            load.unanswered = load.unanswered.saturating_sub(1);
            load.progress = now;
        }
    }

    fn choose(&self, listener: ListenerId, client: Client, refused: &[Run], now: Duration) -> Option<Run> {
        let is_free = |load: &Load| load.is_free(self.rules.max_connections, now);
        let able = self.able(listener, refused);
        let chosen = match (self.rules.balance, client) {
            (Balance::Sticky, Client(Some(client))) => able
                .max_by_key(|(entry, load)| (affinity(client, load.instance), entry.run))
                .filter(|(_, load)| is_free(load)),
            (Balance::Least, _) => {
                able.filter(|(_, load)| is_free(load)).min_by_key(|(entry, load)| (load.busy_with(), entry.last))
            }
            (Balance::RoundRobin | Balance::Shared | Balance::Sticky, _) => {
                able.filter(|(_, load)| is_free(load)).min_by_key(|(entry, load)| (load.unanswered, entry.last))
            }
        };
        chosen.map(|(entry, _)| entry.run)
    }

    fn all_refused(&self, listener: ListenerId, refused: &[Run]) -> bool {
        !refused.is_empty() && self.serving(listener).all(|(entry, _)| refused.contains(&entry.run))
    }

    fn hand(&mut self, listener: ListenerId, run: Run, now: Duration) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(entry) = self.lists.get_mut(&listener).and_then(|list| list.iter_mut().find(|e| e.run == run)) {
            entry.last = turn;
        }
        if let Some(load) = self.workers.get_mut(&run) {
            if load.unanswered == 0 {
                load.progress = now;
            }
            load.unanswered += 1;
        }
    }

    /// Those who may be asked to take a connection of this listener that others have refused.
    fn able(&self, listener: ListenerId, refused: &[Run]) -> impl Iterator<Item = (&Entry, &Load)> {
        let asked = move || self.serving(listener).filter(|(entry, _)| !refused.contains(&entry.run));
        let all = self.aside.is_empty() || asked().all(|(entry, _)| self.aside.contains(&entry.run));
        asked().filter(move |(entry, _)| all || !self.aside.contains(&entry.run))
    }

    /// Those in rotation for this listener.
    fn serving(&self, listener: ListenerId) -> impl Iterator<Item = (&Entry, &Load)> {
        let list = self.lists.get(&listener).map_or(&[][..], Vec::as_slice);
        list.iter()
            .filter_map(|entry| Some((entry, self.workers.get(&entry.run)?)))
            .filter(|(entry, load)| !load.excluded && !self.not_ready.contains(&entry.run))
    }
}

#[cfg(test)]
mod tests;
