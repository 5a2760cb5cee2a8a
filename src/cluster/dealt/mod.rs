//! Connections that pass through the daemon: it accepts them and passes each to a worker over the channel of that
//! worker.
//!
//! The files form layers, and each imports only those above it in this list:
//! - what travels and by which way: `connection`, `write_queue`, `listen_request`, the wires of `node` and `channel`;
//! - what is known of one listener (`listener`) and of one worker (`member`), and their records (`record`);
//! - what is known of all (`state`), which connection goes where (`dispatch`), which listeners are open (`listeners`),
//!   which workers are in rotation (`rotation`), and connections of the daemon's own (`probes`);
//! - what a worker's messages mean (`node::session`, `channel::session`), how a worker joins and leaves (`workers`,
//!   `drain`), and how the next daemon goes on with all of it (`recover`).

pub(crate) mod backpressure;
pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod dispatch;
pub(crate) mod drain;
pub(crate) mod listen_request;
pub(crate) mod listener;
pub(crate) mod listeners;
pub(crate) mod member;
pub(crate) mod node;
pub(crate) mod probes;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod rotation;
pub(crate) mod state;
pub(crate) mod workers;
pub(crate) mod write_queue;
