//! Connections that the kernel deals: each worker accepts from a queue of its own, which the daemon opened or holds a copy of.

mod accept_probe;
pub(crate) mod activation;
pub(crate) mod intercept;
pub(crate) mod queues;
