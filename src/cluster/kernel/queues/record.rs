//! What of the queues is in the ledger: who has which, and what the groups know of their sockets. The sockets
//! themselves, and the files of the balancers, are kept by name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::queue::{Holder, Place, Queue, QueueId};
use super::queues_key;
use super::state::{State, Worker, inode};
use crate::cluster::Notice;
use crate::cluster::persist::store::StateStore;
use crate::cluster::waiting::{Arrivals, Shedder};
use crate::os::net::reuseport;
use crate::os::net::reuseport::{Group, KernelBalancing, Key, MemberId};
use crate::protocol::Run;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    next: u64,
    queues: Vec<KnownQueue>,
    places: Vec<KnownPlace>,
    workers: Vec<KnownWorker>,
    #[serde(rename = "withheld")]
    not_ready: BTreeSet<Run>,
    aside: BTreeSet<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KnownQueue {
    id: QueueId,
    /// Whose member it is; see [`KnownPlace::id`].
    #[serde(default)]
    place: Option<u64>,
    #[serde(default)]
    member: Option<MemberId>,
    #[serde(default)]
    holders: Vec<Holder>,
    #[serde(default)]
    vacant_since: Option<u64>,
    #[serde(default)]
    arrivals: Arrivals,
}

#[derive(Debug, Serialize, Deserialize)]
struct KnownPlace {
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

impl State {
    /// Writes down what is known now.
    pub(crate) fn note(&self) {
        match serde_json::to_string(&self.record()) {
            Ok(json) => self.store.persistence.ledger.put(&queues_key(self.store.app), &json),
            Err(error) => tracing::error!(%error, "the queues of a cluster cannot be written down"),
        }
        self.store.commit();
    }

    /// There are none any more.
    pub(crate) fn forget(&self) {
        self.store.persistence.ledger.remove(&queues_key(self.store.app));
        self.store.commit();
    }

    fn record(&self) -> Record {
        let queue = |queue: &Queue| KnownQueue {
            id: queue.id,
            place: self.places.get(&queue.key).map(|place| place.id),
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
        let place = |place: &Place| KnownPlace { id: place.id, group: place.group.record() };
        Record {
            next: self.next,
            queues: self.queues.iter().map(queue).collect(),
            places: self.places.values().map(place).collect(),
            workers: self.workers.iter().map(worker).collect(),
            not_ready: self.not_ready.clone(),
            aside: self.aside.clone(),
        }
    }

    pub(crate) fn adopt(
        store: StateStore,
        at_most: KernelBalancing,
        notices: UnboundedSender<Notice>,
        record: &str,
        files: &mut HashMap<String, OwnedFd>,
    ) -> Result<Rc<RefCell<State>>, String> {
        let record: Record = serde_json::from_str(record).map_err(|error| format!("the record of queues: {error}"))?;
        let shared = State::new(store, at_most, notices);
        {
            let mut state = shared.borrow_mut();
            state.next = record.next;
            (state.not_ready, state.aside) = (record.not_ready, record.aside);
            for known in record.workers {
                let KnownWorker { run, root, excluded, emptied, instance } = known;
                state.instances.extend(instance.map(|instance| (run, instance)));
                state.workers.insert(run, Worker { root, excluded, draining: None, emptied });
            }
            let members = state.adopt_queues(record.queues, files);
            state.adopt_places(record.places, members, files);
            let keys: Vec<Key> = state.places.keys().copied().collect();
            keys.into_iter().for_each(|key| state.steer(key));
            state.note();
            state.look_again();
            let there: Vec<usize> = (0..state.queues.len()).filter(|at| state.queues[*at].member.is_some()).collect();
            there.into_iter().for_each(|at| state.attend(at));
        }
        Ok(shared)
    }

    /// Returns the sockets of each place.
    fn adopt_queues(
        &mut self,
        known: Vec<KnownQueue>,
        files: &mut HashMap<String, OwnedFd>,
    ) -> HashMap<u64, (Key, BTreeMap<MemberId, OwnedFd>)> {
        let mut members: HashMap<u64, (Key, BTreeMap<MemberId, OwnedFd>)> = HashMap::new();
        for KnownQueue { id, place, member, holders, vacant_since, arrivals } in known {
            let Some(socket) = files.remove(&id.name(&self.store)) else { continue };
            let (Ok(Some(key)), Ok(inode)) = (Key::of(&socket), inode(&socket)) else { continue };
            if let (Some(place), Some(member), Ok(copy)) = (place, member, socket.try_clone()) {
                members.entry(place).or_insert_with(|| (key, BTreeMap::new())).1.insert(member, copy);
            }
            let queue = Queue::new(id, key, inode, socket, &self.store);
            let shedder = Shedder::adopt(arrivals);
            self.queues.push(Queue { member, holders, vacant_since, shedder, ..queue });
        }
        members
    }

    fn adopt_places(
        &mut self,
        known: Vec<KnownPlace>,
        mut members: HashMap<u64, (Key, BTreeMap<MemberId, OwnedFd>)>,
        files: &mut HashMap<String, OwnedFd>,
    ) {
        for KnownPlace { id, group } in known {
            let Some((key, sockets)) = members.remove(&id) else { continue };
            let names = ["program", "counter", "table", "sockets", "routes"];
            let of_group = names
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), files.remove(&Place::file_name(&self.store, id, name))?)));
            let group = Group::adopt(group, sockets, of_group.collect());
            self.deal = group.deal();
            let mut place = Place::new(id, group);
            place.keep_files(&self.store);
            self.places.insert(key, place);
        }
    }
}
