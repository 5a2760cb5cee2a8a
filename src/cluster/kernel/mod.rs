//! Connections that the kernel distributes: each worker accepts from a queue of its own, which the daemon opened or of
//! which it holds a copy.

mod accept_probe;
pub(crate) mod activation;
pub(crate) mod intercept;
pub(crate) mod queues;
