//! The state of an app's queues and workers, and the changes to it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use super::queue::{Queue, QueueGroup, QueueId};
use crate::cluster::notice::Notice;
use crate::cluster::own_connections::OwnConnections;
use crate::cluster::persist::StateStore;
use crate::os::net::reuseport;
use crate::os::net::reuseport::{Deal, Group, KernelBalancing, Key};
use crate::protocol::Run;
use crate::spec::QueueRule;

/// The queue table as its tasks hold it. They end when it is dropped.
pub(crate) type WeakQueueTable = Weak<RefCell<QueueTable>>;

#[derive(Debug)]
pub(crate) struct QueueTable {
    pub(crate) me: WeakQueueTable,
    pub(crate) store: StateStore,
    pub(crate) best_balancing: KernelBalancing,
    notices: UnboundedSender<Notice>,
    /// The last number that was given to a queue or group.
    pub(crate) next: u64,
    /// In the order in which they were bound. Declared, and so dropped, before the groups.
    pub(crate) queues: Vec<Queue>,
    pub(crate) groups: BTreeMap<Key, QueueGroup>,
    pub(crate) workers: HashMap<Run, Worker>,
    /// Workers that get no connection until they are ready. Some are not in `workers` yet.
    pub(crate) not_ready: BTreeSet<Run>,
    /// Unhealthy workers: they get no connection that a healthy one could take.
    pub(crate) ejected: BTreeSet<Run>,
    /// A task is sleeping that will remove orphaned queues.
    pub(crate) orphan_check_scheduled: bool,
    /// Timeout, backlog and rejection of connections that wait.
    pub(crate) rule: QueueRule,
    /// The daemon's own connections to workers.
    pub(crate) own_connections: OwnConnections,
    pub(crate) deal: Deal,
    /// The instance number of each worker.
    pub(crate) instances: HashMap<Run, u32>,
}

#[derive(Debug)]
pub(crate) struct Worker {
    /// All its processes descend from this pid; 0 while it is not known.
    pub(crate) root: i32,
    /// Out of rotation for good: it drains, stops or has ended.
    pub(crate) excluded: bool,
    /// The task that drains it, once that has begun.
    pub(crate) draining: Option<AbortOnDropHandle<()>>,
    /// While it drained, its queues stayed empty for so long that no handshake is under way any more.
    pub(crate) emptied: bool,
}

impl Drop for QueueTable {
    fn drop(&mut self) {
        self.remove_record();
    }
}

impl QueueTable {
    pub(crate) fn new(
        store: StateStore,
        best_balancing: KernelBalancing,
        notices: UnboundedSender<Notice>,
    ) -> Rc<RefCell<QueueTable>> {
        Rc::new_cyclic(|me| {
            RefCell::new(QueueTable {
                me: me.clone(),
                store,
                best_balancing,
                notices,
                next: 0,
                queues: Vec::new(),
                groups: BTreeMap::new(),
                workers: HashMap::new(),
                not_ready: BTreeSet::new(),
                ejected: BTreeSet::new(),
                orphan_check_scheduled: false,
                rule: QueueRule::default(),
                own_connections: OwnConnections::default(),
                deal: Deal::default(),
                instances: HashMap::new(),
            })
        })
    }

    /// Sends a notice to the owner. If the owner has dropped the receiver, it is about to drop the queues, too.
    pub(crate) fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    pub(crate) fn join(&mut self, run: Run, root: i32) {
        let worker = Worker { root, excluded: false, draining: None, emptied: false };
        self.workers.entry(run).or_insert(worker).root = root;
        self.save();
    }

    pub(crate) fn held_by(&self, run: Run) -> impl Iterator<Item = &Queue> {
        self.queues.iter().filter(move |queue| queue.is_held_by(run))
    }

    /// The queues on which the worker listens or reads.
    pub(crate) fn listening_keys(&self, run: Run) -> impl Iterator<Item = &Queue> {
        let is_listening_on =
            move |queue: &&Queue| queue.holders.iter().any(|holder| holder.run == run && holder.listens);
        self.queues.iter().filter(|queue| queue.member.is_some()).filter(is_listening_on)
    }

    /// A new number for a queue or group, never used before.
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
        self.update_rotation(key);
        self.save();
        Ok(())
    }

    /// Appends a queue without a worker, which is not recorded yet. Returns its position, or that of the queue that has
    /// this socket already.
    pub(crate) fn insert(&mut self, key: Key, socket: OwnedFd) -> io::Result<usize> {
        let inode = inode(&socket)?;
        // The previous God died after it had bound the socket, and the call is handled again.
        if let Some(at) = self.queues.iter().position(|queue| queue.inode == inode) {
            return Ok(at);
        }
        let id = QueueId(self.next());
        self.queues.push(Queue::new(id, key, inode, socket, &self.store));
        Ok(self.queues.len() - 1)
    }

    /// Makes the socket listen and adds it to its group, out of rotation unless it is the first. If that fails, a queue
    /// without member and holder is removed. `backlog` is ignored for UDP.
    pub(crate) fn enter(&mut self, at: usize, backlog: i32) -> io::Result<()> {
        let least = self.rule.backlog.map_or(0, |least| i32::try_from(least).unwrap_or(i32::MAX));
        let (key, backlog) = (self.queues[at].key, backlog.max(least));
        if !self.groups.contains_key(&key) {
            let id = self.next();
            let mut group = Group::new(self.best_balancing);
            group.set_deal(self.deal);
            self.groups.insert(key, QueueGroup::new(id, group));
        }
        let (queue, group) = (&mut self.queues[at], self.groups.get_mut(&key));
        let entered = match (group, queue.socket.try_clone()) {
            (Some(group), Ok(copy)) => {
                group.kernel.add(copy, backlog, false).inspect(|_| group.keep_files(&self.store))
            }
            (_, Err(error)) => Err(error),
            (None, Ok(_)) => Err(io::ErrorKind::NotFound.into()),
        };
        match entered {
            Ok(member) => {
                queue.member = Some(member);
                self.watch_for_close(at);
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
        self.open_placeholder_before(run, self.queues[at].key);
        self.enter(at, backlog)?;
        let queue = &mut self.queues[at];
        queue.hold(run);
        queue.holders.iter_mut().filter(|holder| holder.run == run).for_each(|holder| holder.listens = true);
        let key = queue.key;
        self.update_rotation(key);
        self.migrate_waiting(key);
        self.save();
        self.schedule_orphan_check();
        Ok(Some(key))
    }

    /// Removes the vacant queues of an address that is served, if the kernel then moves what waits in them to the
    /// others.
    pub(crate) fn migrate_waiting(&mut self, key: Key) {
        if self.is_served(&key) && self.groups.get(&key).is_some_and(|group| group.kernel.migrates()) {
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
        if let (Some(member), Some(group)) = (self.queues[at].member, self.groups.get_mut(&key)) {
            group.set_included(member, included);
        }
        self.save();
        Ok(())
    }

    pub(crate) fn gone(&mut self, run: Run) {
        self.not_ready.remove(&run);
        self.ejected.remove(&run);
        self.instances.remove(&run);
        let Some(worker) = self.workers.get_mut(&run) else { return };
        worker.excluded = true;
        let held: Vec<(QueueId, Key)> = self.held_by(run).map(|queue| (queue.id, queue.key)).collect();
        for (id, key) in held {
            self.release(id, run, true);
            self.update_rotation(key);
        }
        self.workers.remove(&run);
        self.save();
        self.schedule_orphan_check();
    }

    /// Closes a queue. The kernel moves what waits in it to the others of the group, if it can, or else resets it.
    pub(crate) fn remove(&mut self, id: QueueId) {
        let Some(at) = self.queues.iter().position(|queue| queue.id == id) else { return };
        let queue = self.queues.remove(at);
        let Some(group) = self.groups.get_mut(&queue.key) else { return };
        let key = queue.key;
        let member = queue.member;
        drop(queue);
        if let Some(member) = member {
            group.kernel.remove(member);
            group.keep_files(&self.store);
        }
        if self.queues.iter().all(|queue| queue.key != key) {
            self.groups.remove(&key);
        }
    }

    pub(crate) fn inherit(&mut self, run: Run, key: &Key) -> Option<OwnedFd> {
        if self.must_stay_empty(run, key) {
            return None;
        }
        let vacant = self.queues.iter_mut().filter(|queue| queue.key == *key && queue.is_vacant());
        let queue = vacant.max_by_key(|queue| queue.waiting())?;
        let socket = queue.socket.try_clone().ok()?;
        queue.hold(run);
        self.update_rotation(*key);
        self.save();
        Some(socket)
    }

    pub(crate) fn join_shared(&mut self, run: Run, key: &Key) -> Option<OwnedFd> {
        let is_accepted_by = |queue: &Queue| queue.key == *key && self.is_accepted_by(queue, |_| true);
        // Workers that start together may all have bound before the first of them listens or reads.
        let is_bound = |queue: &Queue| queue.key == *key && queue.holders.iter().any(|one| self.is_included(one.run));
        let at = self.queues.iter().position(is_accepted_by).or_else(|| self.queues.iter().position(is_bound))?;
        let queue = &mut self.queues[at];
        let socket = queue.socket.try_clone().ok()?;
        queue.hold(run);
        self.save();
        Some(socket)
    }

    /// See [`super::Queues::open`].
    pub(crate) fn open_for(&mut self, run: Run, key: Key) -> io::Result<OwnedFd> {
        let socket = match self.inherit(run, &key) {
            Some(socket) => socket,
            None => self.open(run, key)?,
        };
        self.update_rotation(key);
        self.save();
        Ok(socket)
    }

    /// See [`super::Queues::reads`].
    pub(crate) fn reads(&mut self, run: Run, key: Key) -> bool {
        let reads = self.held_by(run).any(|queue| queue.key == key && queue.member.is_some());
        if reads {
            self.set_listens(run, key);
            self.update_rotation(key);
            self.save();
        }
        reads
    }

    fn set_listens(&mut self, run: Run, key: Key) {
        let queues = self.queues.iter_mut().filter(|queue| queue.key == key);
        let holders = queues.flat_map(|queue| &mut queue.holders).filter(|holder| holder.run == run);
        holders.for_each(|holder| holder.listens = true);
    }

    fn open(&mut self, run: Run, key: Key) -> io::Result<OwnedFd> {
        let socket = key.socket()?;
        let copy = socket.try_clone()?;
        let at = self.insert(key, socket)?;
        self.enter(at, reuseport::BACKLOG)?;
        self.queues[at].hold(run);
        Ok(copy)
    }

    /// See [`super::Queues::serve`].
    pub(crate) fn serve(&mut self, run: Run) {
        for key in self.keys_of(run) {
            self.set_listens(run, key);
            self.update_rotation(key);
            self.migrate_waiting(key);
        }
        self.save();
        self.schedule_orphan_check();
    }

    /// How many TCP connections wait in all queues.
    pub(crate) fn waiting(&self) -> u32 {
        let listening = self.queues.iter().filter(|queue| queue.member.is_some() && queue.key.tcp);
        listening.map(Queue::waiting).sum()
    }

    pub(crate) fn close(&mut self) {
        let all: Vec<QueueId> = self.queues.iter().map(|queue| queue.id).collect();
        all.into_iter().for_each(|id| self.remove(id));
        self.save();
    }
}

pub(crate) fn inode(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}
