//! What is known of the queues, and who is in rotation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use super::queue::{Place, Queue, QueueId};
use crate::cluster::Notice;
use crate::cluster::own_connections::Calls;
use crate::cluster::persist::store::StateStore;
use crate::os::net::reuseport;
use crate::os::net::reuseport::{Deal, Group, KernelBalancing, Key};
use crate::protocol::Run;
use crate::spec::QueueRule;

/// State as tasks hold it: they end when the queues do.
pub(crate) type Shared = Weak<RefCell<State>>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) me: Shared,
    pub(crate) store: StateStore,
    pub(crate) at_most: KernelBalancing,
    notices: UnboundedSender<Notice>,
    pub(crate) next: u64,
    /// Before the places: what is kept goes before what is closed.
    pub(crate) queues: Vec<Queue>,
    pub(crate) places: BTreeMap<Key, Place>,
    pub(crate) workers: HashMap<Run, Worker>,
    /// Those who are to get nothing yet. Some are not known as workers yet.
    pub(crate) not_ready: BTreeSet<Run>,
    /// Those who are to get nothing that another could have.
    pub(crate) aside: BTreeSet<Run>,
    /// Somebody will look after the vacant.
    pub(crate) looking: bool,
    /// What becomes of connections nobody is there for.
    pub(crate) rule: QueueRule,
    /// Connections of our own.
    pub(crate) calls: Calls,
    pub(crate) deal: Deal,
    /// The number of each worker among the app's processes.
    pub(crate) instances: HashMap<Run, u32>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    /// Its processes descend from this one.
    pub(crate) root: i32,
    pub(crate) excluded: bool,
    /// Its way out, once it is on it.
    pub(crate) draining: Option<AbortOnDropHandle<()>>,
    /// Its queues were empty for so long that nothing more is on its way to them.
    pub(crate) emptied: bool,
}

impl Drop for State {
    fn drop(&mut self) {
        self.forget();
    }
}

impl State {
    pub(crate) fn new(
        store: StateStore,
        at_most: KernelBalancing,
        notices: UnboundedSender<Notice>,
    ) -> Rc<RefCell<State>> {
        Rc::new_cyclic(|me| {
            RefCell::new(State {
                me: me.clone(),
                store,
                at_most,
                notices,
                next: 0,
                queues: Vec::new(),
                places: BTreeMap::new(),
                workers: HashMap::new(),
                not_ready: BTreeSet::new(),
                aside: BTreeSet::new(),
                looking: false,
                rule: QueueRule::default(),
                calls: Calls::default(),
                deal: Deal::default(),
                instances: HashMap::new(),
            })
        })
    }

    /// Tells the owner. One that listens no more is about to drop us.
    pub(crate) fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    pub(crate) fn join(&mut self, run: Run, root: i32) {
        let worker = Worker { root, excluded: false, draining: None, emptied: false };
        self.workers.entry(run).or_insert(worker).root = root;
        self.note();
    }

    pub(crate) fn held_by(&self, run: Run) -> impl Iterator<Item = &Queue> {
        self.queues.iter().filter(move |queue| queue.is_held_by(run))
    }

    pub(crate) fn begun_by(&self, run: Run) -> impl Iterator<Item = &Queue> {
        let has_begun = move |queue: &&Queue| queue.holders.iter().any(|holder| holder.run == run && holder.listens);
        self.queues.iter().filter(|queue| queue.member.is_some()).filter(has_begun)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn bound(&mut self, run: Run, socket: OwnedFd) -> io::Result<()> {
        let key = Key::of(&socket)?.ok_or(io::ErrorKind::InvalidInput)?;
        let at = self.insert(key, socket)?;
        if !key.tcp {
            self.enter(at, 0)?;
        }
        self.queues[at].hold(run);
        self.steer(key);
        self.note();
        Ok(())
    }

    /// A new queue without a worker, at the end of the list, and not written down yet.
    pub(crate) fn insert(&mut self, key: Key, socket: OwnedFd) -> io::Result<usize> {
        let inode = inode(&socket)?;
        // A call that was answered twice, by two Gods.
        if let Some(at) = self.queues.iter().position(|queue| queue.inode == inode) {
            return Ok(at);
        }
        let id = QueueId(self.next());
        self.queues.push(Queue::new(id, key, inode, socket, &self.store));
        Ok(self.queues.len() - 1)
    }

    /// Listens, and takes the queue into its group, out of rotation unless it is the first. If that fails, the queue is
    /// forgotten.
    pub(crate) fn enter(&mut self, at: usize, backlog: i32) -> io::Result<()> {
        let least = self.rule.backlog.map_or(0, |least| i32::try_from(least).unwrap_or(i32::MAX));
        let (key, backlog) = (self.queues[at].key, backlog.max(least));
        if !self.places.contains_key(&key) {
            let id = self.next();
            let mut group = Group::new(self.at_most);
            group.set_deal(self.deal);
            self.places.insert(key, Place::new(id, group));
        }
        let (queue, place) = (&mut self.queues[at], self.places.get_mut(&key));
        let entered = match (place, queue.socket.try_clone()) {
            (Some(place), Ok(copy)) => place.group.add(copy, backlog, false).inspect(|_| place.keep_files(&self.store)),
            (_, Err(error)) => Err(error),
            (None, Ok(_)) => Err(io::ErrorKind::NotFound.into()),
        };
        match entered {
            Ok(member) => {
                queue.member = Some(member);
                self.attend(at);
            }
            Err(error) if queue.member.is_none() && queue.holders.is_empty() => {
                let id = queue.id;
                self.remove(id);
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(crate) fn listening(&mut self, run: Run, socket: impl AsFd, backlog: i32) -> io::Result<Option<Key>> {
        let inode = inode(socket)?;
        let Some(at) = self.queues.iter().position(|queue| queue.inode == inode && queue.key.tcp) else {
            return Ok(None);
        };
        self.shut_out(run, self.queues[at].key);
        self.enter(at, backlog)?;
        let queue = &mut self.queues[at];
        queue.hold(run);
        queue.holders.iter_mut().filter(|holder| holder.run == run).for_each(|holder| holder.listens = true);
        let key = queue.key;
        self.steer(key);
        self.move_waiting(key);
        self.note();
        self.look_again();
        Ok(Some(key))
    }

    /// Somebody serves here: what waits in queues without a worker moves there, if the kernel does that.
    pub(crate) fn move_waiting(&mut self, key: Key) {
        if self.is_served(&key) && self.places.get(&key).is_some_and(|place| place.group.migrates()) {
            let vacant = self.queues.iter().filter(|queue| queue.key == key && queue.is_vacant());
            let vacant: Vec<QueueId> = vacant.map(|queue| queue.id).collect();
            vacant.into_iter().for_each(|id| self.remove(id));
        }
    }

    pub(crate) fn open_placeholder(&mut self, key: Key) -> io::Result<()> {
        let socket = key.socket()?;
        let at = self.insert(key, socket)?;
        self.enter(at, reuseport::BACKLOG)?;
        let included = !self.is_served(&key);
        if let (Some(member), Some(place)) = (self.queues[at].member, self.places.get_mut(&key)) {
            place.set_included(member, included);
        }
        self.note();
        Ok(())
    }

    pub(crate) fn is_included(&self, run: Run) -> bool {
        self.workers.get(&run).is_some_and(|worker| !worker.excluded)
    }

    pub(crate) fn is_served(&self, key: &Key) -> bool {
        self.queues.iter().any(|queue| queue.key == *key && self.is_served_queue(queue))
    }

    /// Brings the group at this address in order: those of included workers are in rotation. Without any, it is one that
    /// has nobody, or is with somebody who is only getting ready; and without that, one is opened.
    pub(crate) fn steer(&mut self, key: Key) {
        let chosen = self.chosen(&key);
        if chosen.is_empty() && self.queues.iter().any(|queue| queue.key == key && queue.member.is_some()) {
            // What cannot be had is done without: connections then go to those who leave.
            match self.open_placeholder(key) {
                Ok(()) => {}
                Err(error) => tracing::debug!(address = %key.address, %error, "no door can be opened"),
            }
        }
        self.seat_those_at(&key);
        let chosen = self.chosen(&key);
        let Some(place) = self.places.get_mut(&key) else { return };
        // Those who come first, so that somebody is there at each moment.
        for wanted in [true, false] {
            for queue in self.queues.iter().filter(|queue| queue.key == key) {
                if let Some(member) = queue.member
                    && (chosen.contains(&queue.id) == wanted)
                {
                    place.set_included(member, wanted);
                }
            }
        }
        place.keep_files(&self.store);
        self.look_out(&key);
    }

    /// Who is to be in rotation.
    pub(crate) fn chosen(&self, key: &Key) -> BTreeSet<QueueId> {
        let here = || self.queues.iter().filter(|queue| queue.key == *key && queue.member.is_some());
        let served = self.best_served(here());
        if !served.is_empty() {
            return served;
        }
        let may_get = |run: Run| self.is_included(run) && !self.goes_without(run, key);
        let becomes = |queue: &Queue| queue.holders.iter().any(|holder| may_get(holder.run));
        let waits = here().filter(|queue| queue.is_vacant() || becomes(queue));
        let listens = waits.filter(|queue| !queue.key.tcp || reuseport::listens(&queue.socket));
        // The one that is it stays it: what waits shall wait together.
        let door = listens.max_by_key(|queue| (self.is_in_rotation(queue), queue.waiting()));
        door.map(|queue| queue.id).into_iter().collect()
    }

    fn is_in_rotation(&self, queue: &Queue) -> bool {
        let members = self.places.get(&queue.key).into_iter().flat_map(|place| place.group.members());
        members.into_iter().any(|(id, included)| included && Some(id) == queue.member)
    }

    pub(crate) fn exclude(&mut self, run: Run) {
        let Some(worker) = self.workers.get_mut(&run) else { return };
        if std::mem::replace(&mut worker.excluded, true) {
            return;
        }
        self.steer_those_of(run);
        self.note();
    }

    pub(crate) fn keys_of(&self, run: Run) -> BTreeSet<Key> {
        self.held_by(run).map(|queue| queue.key).collect()
    }

    pub(crate) fn steer_those_of(&mut self, run: Run) {
        self.keys_of(run).into_iter().for_each(|key| self.steer(key));
    }

    pub(crate) fn gone(&mut self, run: Run) {
        self.not_ready.remove(&run);
        self.aside.remove(&run);
        self.instances.remove(&run);
        let Some(worker) = self.workers.get_mut(&run) else { return };
        worker.excluded = true;
        let held: Vec<(QueueId, Key)> = self.held_by(run).map(|queue| (queue.id, queue.key)).collect();
        for (id, key) in held {
            self.let_go(id, run, true);
            self.steer(key);
        }
        self.workers.remove(&run);
        self.note();
        self.look_again();
    }

    /// Closes a queue. What waits in it moves to others if the kernel does that.
    pub(crate) fn remove(&mut self, id: QueueId) {
        let Some(at) = self.queues.iter().position(|queue| queue.id == id) else { return };
        let queue = self.queues.remove(at);
        let Some(place) = self.places.get_mut(&queue.key) else { return };
        let key = queue.key;
        let member = queue.member;
        drop(queue);
        if let Some(member) = member {
            place.group.remove(member);
            place.keep_files(&self.store);
        }
        if self.queues.iter().all(|queue| queue.key != key) {
            self.places.remove(&key);
        }
    }

    pub(crate) fn close(&mut self) {
        let all: Vec<QueueId> = self.queues.iter().map(|queue| queue.id).collect();
        all.into_iter().for_each(|id| self.remove(id));
        self.note();
    }
}

pub(crate) fn inode(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}
