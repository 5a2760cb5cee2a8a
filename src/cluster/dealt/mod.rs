//! Connections that pass through the daemon: it accepts them and passes each to a worker over the channel of that worker.

pub(crate) mod backpressure;
pub(crate) mod channel;
pub(crate) mod dispatcher;
pub(crate) mod drain;
pub(crate) mod listen_request;
pub(crate) mod listener;
pub(crate) mod node;
pub(crate) mod probe;
pub(crate) mod queue_timeout;
pub(crate) mod state;
pub(crate) mod transport;
pub(crate) mod write_queue;
