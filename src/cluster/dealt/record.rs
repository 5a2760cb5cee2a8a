//! The cluster's record in the ledger: all that the next daemon cannot learn from the open files.
//!
//! It is written whole each time something changes, before a worker is notified; never for a single connection. A
//! reader ignores fields it does not know and takes missing ones for empty, so that a newer and an older daemon can
//! follow each other. Field names on disk are fixed; where the code uses another word, the field is renamed for serde.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::listener::{Endpoint, Holder, Listener, Vacant};
use super::member::{Life, Member};
use crate::cluster::balancer::Balancer;
use crate::cluster::waiting::Arrivals;
use crate::os::net::socket::{LocalAddress, SocketFile, SocketFileId};
use crate::protocol::Run;

/// The record of a cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub(crate) next_listener: u64,
    pub(crate) listeners: Vec<ListenerRecord>,
    pub(crate) members: Vec<MemberRecord>,
}

/// A listener; see [`Listener`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListenerRecord {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) address: LocalAddress,
    pub(crate) kind: Kind,
    /// The socket file of a Unix path, to be removed with the listener.
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
pub(crate) struct MemberRecord {
    pub(crate) run: Run,
    #[serde(default)]
    pub(crate) instance: u32,
    #[serde(default, rename = "shares")]
    pub(crate) takes_connections: bool,
    /// Out of rotation for good.
    #[serde(default)]
    pub(crate) excluded: bool,
    /// Not in rotation yet.
    #[serde(default, rename = "withheld")]
    pub(crate) not_ready: bool,
    /// Skipped where others serve.
    #[serde(default, rename = "aside")]
    pub(crate) ejected: bool,
    #[serde(default, rename = "node")]
    pub(crate) node_version: Option<String>,
    #[serde(default)]
    pub(crate) asked_to_drain: bool,
    #[serde(default)]
    pub(crate) drained: bool,
    #[serde(default)]
    pub(crate) asked_to_disconnect: bool,
    /// One address at most. A list, since earlier versions wrote all of them.
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

impl MemberRecord {
    pub(crate) fn of(run: Run, member: &Member, balancer: &Balancer) -> MemberRecord {
        MemberRecord {
            run,
            instance: member.instance,
            takes_connections: member.takes_connections(),
            excluded: member.takes_connections() && !balancer.is_included(run),
            not_ready: balancer.is_not_ready(run),
            ejected: balancer.is_ejected(run),
            node_version: member.node_version.clone(),
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

impl From<&Listener> for ListenerRecord {
    fn from(listener: &Listener) -> ListenerRecord {
        let kind = match &listener.endpoint {
            Endpoint::Dealt(_) => Kind::Dealt,
            Endpoint::Shared { udp: false, .. } => Kind::Shared,
            Endpoint::Shared { udp: true, .. } => Kind::Datagrams,
        };
        let arrivals = match &listener.endpoint {
            Endpoint::Dealt(_) => Arrivals::default(),
            Endpoint::Shared { shedder, .. } => shedder.arrivals().clone(),
        };
        ListenerRecord {
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
}
