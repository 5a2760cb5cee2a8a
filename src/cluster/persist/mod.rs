//! Where a cluster is persisted, so that the next daemon can go on with it: records and open files in the ledger, and a
//! slot of the shared memory for each connection that the daemon holds.

mod accepted;
mod ledger;

pub(crate) use self::accepted::AcceptedSocket;
pub(crate) use self::ledger::{KeptFd, StateStore};
pub use self::ledger::{Persistence, RecoveredCluster, channel_name, own_channel_name, record_key};
