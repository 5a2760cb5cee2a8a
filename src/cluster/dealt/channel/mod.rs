//! The daemon's side of pmr's own worker protocol; the messages are in [`crate::protocol::channel`].
//!
//! It shares everything but the wire with Node's: the same listeners, the same balancer, the same
//! [`Connection`](super::connection::Connection)s, which are open in the daemon until the worker has confirmed that it
//! took them. On the wire, several connections go in one packet, and the worker grants credit for them.
//!
//! As on Node's channels, what comes in is peeked at, handled, and only then taken out of the socket, so the next
//! daemon may see the last packet again; each message is worded so that this does no harm. A recovered channel begins
//! with a SYNC: the answer shows which of the connections in flight the worker has. The others were never sent.

pub(crate) mod packets;
pub(crate) mod session;
