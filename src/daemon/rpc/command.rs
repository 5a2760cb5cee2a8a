//! The commands that RPC handlers send to God. In a file of its own, since both ends import it.

use std::fs::File;
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::protocol::event::Requester;
use crate::protocol::{DaemonWarnings, Description, EventKind, ProcessInfo, Refusal, Report, Successor, Upgraded};
use crate::spec::target::Selector;
use crate::supervisor::{Request, Snapshot};

/// Sends the answer to a request. The client may have hung up: then the answer is dropped.
pub(crate) type Reply = oneshot::Sender<Result<Report, Refusal>>;

/// What an RPC handler sends to God. Each command but [`Command::Publish`] and [`Command::Subscribe`] carries the sender of
/// its answer.
pub(crate) enum Command {
    /// A request for the supervisor, and which client made it. The answer comes when all of it is done.
    Request(Request, Requester, Reply),
    /// The process list.
    List(oneshot::Sender<Vec<ProcessInfo>>),
    /// Everything about the processes selected.
    Describe(Vec<Selector>, oneshot::Sender<Result<Vec<Description>, Refusal>>),
    /// What an operator should know about the daemon itself.
    DaemonWarnings(oneshot::Sender<DaemonWarnings>),
    /// The desired state, as `save` writes it.
    Snapshot(oneshot::Sender<Snapshot>),
    /// Truncate the log files of the processes selected.
    Flush(Vec<Selector>, Reply),
    /// Close and open all log files again.
    ReopenLogs(Reply),
    /// Publish an event that is about no process.
    Publish(EventKind),
    /// A file with the ledger, for a program that may take over, and the number of runs it would take over.
    Ledger(oneshot::Sender<std::io::Result<(OwnedFd, u32)>>),
    /// Hand over to this program, of this version.
    HandOver(File, String, oneshot::Sender<Result<Successor, Refusal>>),
    /// The outcome of the last upgrade.
    Upgraded(oneshot::Sender<Upgraded>),
    /// A new subscriber to the events.
    Subscribe(UnixStream),
}
