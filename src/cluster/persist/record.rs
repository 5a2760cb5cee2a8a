//! What of a cluster is in the ledger: all that a successor cannot learn from the open files.
//!
//! It is written whole each time something changes, before a worker is told; never for a single connection. A reader
//! ignores fields it does not know and takes those that are missing for empty, so that a newer and an older daemon can
//! follow each other.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::dealt::listener::{Endpoint, Holder, Listener, Vacant};
use super::super::dealt::state::{ClusterState, Life, Member};
use super::super::waiting::Arrivals;
use crate::os::net::socket::{LocalAddress, SocketFile, SocketFileId};
use crate::protocol::Run;

/// The record of a cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) next_listener: u64,
    pub(crate) listeners: Vec<KnownListener>,
    pub(crate) members: Vec<KnownMember>,
}

/// A listener; see [`Listener`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KnownListener {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) address: LocalAddress,
    pub(crate) kind: Kind,
    /// The file at a Unix path, to be removed with the listener.
    #[serde(default)]
    pub(crate) file: Option<SocketFileId>,
    #[serde(default)]
    pub(crate) data: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) holders: Vec<Holder>,
    #[serde(default)]
    pub(crate) vacant: Option<Vacant>,
    #[serde(default)]
    pub(crate) arrivals: Arrivals,
}

/// How connections get to the workers; see [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Dealt,
    Shared,
    Datagrams,
}

/// A worker with a channel; see [`Member`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KnownMember {
    pub(crate) run: Run,
    #[serde(default)]
    pub(crate) instance: u32,
    #[serde(default)]
    pub(crate) shares: bool,
    /// Nothing new goes to it.
    #[serde(default)]
    pub(crate) excluded: bool,
    /// Not yet in rotation.
    #[serde(default, rename = "withheld")]
    pub(crate) not_ready: bool,
    /// Passed over where others serve.
    #[serde(default)]
    pub(crate) aside: bool,
    #[serde(default)]
    pub(crate) node: Option<String>,
    #[serde(default)]
    pub(crate) asked_to_drain: bool,
    #[serde(default)]
    pub(crate) drained: bool,
    #[serde(default)]
    pub(crate) asked_to_disconnect: bool,
    #[serde(default)]
    pub(crate) listening: Vec<String>,
    #[serde(default)]
    pub(crate) ready: bool,
    #[serde(default)]
    pub(crate) file_acknowledged: bool,
    /// As of the last time something else changed.
    #[serde(default)]
    pub(crate) connections: u64,
}

impl ClusterState {
    /// Writes down what is known now.
    pub(crate) fn note(&self) {
        self.put_record();
        self.store.commit();
    }

    /// The same, to be written with the next commit.
    pub(crate) fn put_record(&self) {
        match serde_json::to_string(&self.record()) {
            Ok(json) => self.store.put(&json),
            Err(error) => tracing::error!(%error, "the state of a cluster cannot be written down"),
        }
    }

    fn record(&self) -> Record {
        let mut members: Vec<KnownMember> =
            self.members.iter().map(|(run, member)| self.member(*run, member)).collect();
        members.sort_by_key(|member| member.run);
        let listeners = self.listeners.values().map(listener).collect();
        Record { next_listener: self.next_listener, listeners, members }
    }

    fn member(&self, run: Run, member: &Member) -> KnownMember {
        KnownMember {
            run,
            instance: member.instance,
            shares: member.shares(),
            excluded: member.shares() && !self.balancer.rotates(run),
            not_ready: self.balancer.is_not_ready(run),
            aside: self.balancer.is_aside(run),
            node: member.node.clone(),
            asked_to_drain: member.asked_to_drain,
            drained: *member.life.borrow() >= Life::Drained,
            asked_to_disconnect: member.asked_to_disconnect,
            listening: member.listening.iter().cloned().collect(),
            ready: member.ready,
            file_acknowledged: member.file_acknowledged,
            connections: member.connections,
        }
    }
}

fn listener(listener: &Listener) -> KnownListener {
    let kind = match &listener.endpoint {
        Endpoint::Dealt(_) => Kind::Dealt,
        Endpoint::Shared { udp: false, .. } => Kind::Shared,
        Endpoint::Shared { udp: true, .. } => Kind::Datagrams,
    };
    let arrivals = match &listener.endpoint {
        Endpoint::Dealt(_) => Arrivals::default(),
        Endpoint::Shared { shedder, .. } => shedder.arrivals().clone(),
    };
    KnownListener {
        id: listener.id.0,
        name: listener.name.clone(),
        key: listener.key.clone(),
        address: listener.address.clone(),
        kind,
        file: listener.endpoint.file().map(SocketFile::id).cloned(),
        data: listener.data.clone(),
        holders: listener.holders.clone(),
        vacant: listener.vacant,
        arrivals,
    }
}
