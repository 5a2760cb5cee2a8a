//! The record of the queues in the ledger: which worker has which queue, and what each group knows of its sockets. The
//! sockets and the balancers' files are in the keeper, under names that follow from the record.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::queue::{Holder, Queue, QueueGroup, QueueId};
use super::table::{QueueTable, Worker, inode};
use crate::cluster::notice::Notice;
use crate::cluster::persist::StateStore;
use crate::cluster::waiting::{Arrivals, Shedder};
use crate::os::net::reuseport;
use crate::os::net::reuseport::{Group, KernelBalancing, Key, MemberId};
use crate::protocol::Run;

/// The key of the record of an app's queues in the ledger.
#[must_use]
pub fn queues_key(app: u32) -> String {
    format!("queues/{app}")
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// The last number that was given to a queue or group.
    next: u64,
    queues: Vec<QueueRecord>,
    #[serde(rename = "places")]
    groups: Vec<GroupRecord>,
    workers: Vec<KnownWorker>,
    #[serde(rename = "withheld")]
    not_ready: BTreeSet<Run>,
    #[serde(rename = "aside")]
    ejected: BTreeSet<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
struct QueueRecord {
    id: QueueId,
    /// The group of the queue; see [`GroupRecord::id`].
    #[serde(default, rename = "place")]
    group: Option<u64>,
    #[serde(default)]
    member: Option<MemberId>,
    #[serde(default)]
    holders: Vec<Holder>,
    /// Milliseconds of the monotonic clock.
    #[serde(default)]
    vacant_since: Option<u64>,
    #[serde(default)]
    arrivals: Arrivals,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupRecord {
    id: u64,
    group: reuseport::Record,
}

#[derive(Debug, Serialize, Deserialize)]
struct KnownWorker {
    run: Run,
    root: i32,
    #[serde(default)]
    excluded: bool,
    #[serde(default)]
    emptied: bool,
    #[serde(default)]
    instance: Option<u32>,
}

impl QueueTable {
    /// Writes the current state to the ledger.
    pub(crate) fn save(&self) {
        match serde_json::to_string(&self.record()) {
            Ok(json) => self.store.persistence.ledger.put(&queues_key(self.store.app), &json),
            Err(error) => tracing::error!(%error, "the queues of a cluster cannot be written down"),
        }
        self.store.commit();
    }

    /// Removes the record: the app has no queues any more.
    pub(crate) fn remove_record(&self) {
        self.store.persistence.ledger.remove(&queues_key(self.store.app));
        self.store.commit();
    }

    fn record(&self) -> Record {
        let queue = |queue: &Queue| QueueRecord {
            id: queue.id,
            group: self.groups.get(&queue.key).map(|group| group.id),
            member: queue.member,
            holders: queue.holders.clone(),
            vacant_since: queue.vacant_since,
            arrivals: queue.shedder.arrivals().clone(),
        };
        let worker = |(run, worker): (&Run, &Worker)| KnownWorker {
            run: *run,
            root: worker.root,
            excluded: worker.excluded,
            emptied: worker.emptied,
            instance: self.instances.get(run).copied(),
        };
        let group = |group: &QueueGroup| GroupRecord { id: group.id, group: group.kernel.record() };
        Record {
            next: self.next,
            queues: self.queues.iter().map(queue).collect(),
            groups: self.groups.values().map(group).collect(),
            workers: self.workers.iter().map(worker).collect(),
            not_ready: self.not_ready.clone(),
            ejected: self.ejected.clone(),
        }
    }

    /// See [`super::Queues::adopt`].
    pub(crate) fn adopt(
        store: StateStore,
        best_balancing: KernelBalancing,
        notices: UnboundedSender<Notice>,
        record: &str,
        files: &mut HashMap<String, OwnedFd>,
    ) -> Result<Rc<RefCell<QueueTable>>, String> {
        let record: Record = serde_json::from_str(record).map_err(|error| format!("the record of queues: {error}"))?;
        let shared = QueueTable::new(store, best_balancing, notices);
        {
            let mut state = shared.borrow_mut();
            state.next = record.next;
            (state.not_ready, state.ejected) = (record.not_ready, record.ejected);
            for known in record.workers {
                let KnownWorker { run, root, excluded, emptied, instance } = known;
                state.instances.extend(instance.map(|instance| (run, instance)));
                state.workers.insert(run, Worker { root, excluded, draining: None, emptied });
            }
            let members = state.adopt_queues(record.queues, files);
            state.adopt_groups(record.groups, members, files);
            let keys: Vec<Key> = state.groups.keys().copied().collect();
            keys.into_iter().for_each(|key| state.update_rotation(key));
            state.save();
            state.schedule_orphan_check();
            let listening = (0..state.queues.len()).filter(|at| state.queues[*at].member.is_some());
            let listening: Vec<usize> = listening.collect();
            listening.into_iter().for_each(|at| state.watch_for_close(at));
        }
        Ok(shared)
    }

    /// Returns address and sockets of each group. A queue whose socket is not in `files` is dropped.
    fn adopt_queues(
        &mut self,
        known: Vec<QueueRecord>,
        files: &mut HashMap<String, OwnedFd>,
    ) -> HashMap<u64, (Key, BTreeMap<MemberId, OwnedFd>)> {
        let mut members: HashMap<u64, (Key, BTreeMap<MemberId, OwnedFd>)> = HashMap::new();
        for QueueRecord { id, group, member, holders, vacant_since, arrivals } in known {
            let Some(socket) = files.remove(&id.name(&self.store)) else { continue };
            let (Ok(Some(key)), Ok(inode)) = (Key::of(&socket), inode(&socket)) else { continue };
            if let (Some(group), Some(member), Ok(copy)) = (group, member, socket.try_clone()) {
                members.entry(group).or_insert_with(|| (key, BTreeMap::new())).1.insert(member, copy);
            }
            let queue = Queue::new(id, key, inode, socket, &self.store);
            let shedder = Shedder::adopt(arrivals);
            self.queues.push(Queue { member, holders, vacant_since, shedder, ..queue });
        }
        members
    }

    fn adopt_groups(
        &mut self,
        known: Vec<GroupRecord>,
        mut members: HashMap<u64, (Key, BTreeMap<MemberId, OwnedFd>)>,
        files: &mut HashMap<String, OwnedFd>,
    ) {
        for GroupRecord { id, group } in known {
            let Some((key, sockets)) = members.remove(&id) else { continue };
            let names = ["program", "counter", "table", "sockets", "routes"];
            let of_group = names.into_iter().filter_map(|name| {
                Some((name.to_owned(), files.remove(&QueueGroup::file_name(&self.store, id, name))?))
            });
            let group = Group::adopt(group, sockets, of_group.collect());
            self.deal = group.deal();
            let mut group = QueueGroup::new(id, group);
            group.keep_files(&self.store);
            self.groups.insert(key, group);
        }
    }
}
