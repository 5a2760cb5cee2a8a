//! Node's cluster protocol, the primary's half, so that unmodified apps share a port under a primary written in Rust.
//!
//! Each worker has a Unix stream socket on fd 3, where both sides write JSON lines. A worker asks for a listener
//! (`queryServer`); we bind it and answer. Then either we accept and pass each connection with a `newconn` line, to be
//! answered with `accepted: true | false`, or (UDP, and `balance: shared`) the answer carries the listening socket.
//!
//! Three rules of the wire that are easy to break:
//! - Each line that carries a file is acknowledged with `NODE_HANDLE_ACK`. Until we do, a worker that sent us one holds
//!   back all it has to say; and an acknowledgement nobody asked for makes the worker abort.
//! - A worker reads in pieces of 64 KiB and keeps one file at a time: [`outgoing`] never lets a second line with a file
//!   follow while a piece might end inside it.
//! - A connection whose answer we have not seen has not been read from: it may go to another once the worker is dead.

pub(crate) mod channel;
pub(crate) mod conversation;
pub(crate) mod lines;
pub(crate) mod message;
pub(crate) mod outgoing;
pub(crate) mod reply;
