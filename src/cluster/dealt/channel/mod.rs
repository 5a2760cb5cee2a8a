//! The daemon's side of pmr's own worker protocol; the messages are in [`crate::protocol::channel`].
//!
//! It goes along with Node's: the same listeners, the same balancer, the same [`super::state::Connection`]s, which are open
//! with us until the worker has said that it has them. What differs is the wire: several connections go in one packet,
//! and the worker says how many it is ready for.
//!
//! As on Node's channels, what comes in is looked at, acted upon, and only then taken away, so a successor may see the
//! last packet again; each is worded so that this does no harm. A channel taken over begins with a SYNC: the answer tells
//! which of the connections that were on their way the worker has. The others were never sent.

pub(crate) mod conversation;
pub(crate) mod packets;
