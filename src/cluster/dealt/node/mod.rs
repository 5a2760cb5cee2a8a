//! Node's cluster protocol, the primary's half, so that unmodified Node apps share a port under the daemon.
//!
//! Each worker has a Unix stream socket on fd 3, where both sides write JSON lines. A worker asks for a listener
//! (`queryServer`); the daemon binds it and answers. Then either the daemon accepts and passes each connection with a
//! `newconn` line, which the worker answers with `accepted: true | false`, or (UDP, and `balance: shared`) the answer
//! carries the listening socket.
//!
//! Three rules of the wire that are easy to break:
//! - Each line that carries a file is acknowledged with `NODE_HANDLE_ACK`. Until the daemon does, a worker that
//!   sent a file holds back all its messages; and an acknowledgement without a file makes the worker abort.
//! - A worker reads in pieces of 64 KiB and keeps one file at a time: [`outgoing`] sends no second line with a file while
//!   a piece might end inside it.
//! - A connection that is not answered for has not been read from: it may go to another worker once this one is dead.

pub(crate) mod channel;
pub(crate) mod lines;
pub(crate) mod message;
pub(crate) mod outgoing;
pub(crate) mod reply;
pub(crate) mod session;
