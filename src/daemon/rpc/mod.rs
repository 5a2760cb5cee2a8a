//! What clients reach: the RPC and event sockets, the answers, and the record of which client asked for what.

pub(crate) mod audit;
pub(crate) mod bus;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod view;
