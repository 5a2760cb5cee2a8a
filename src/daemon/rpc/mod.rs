//! What clients reach: the RPC and event sockets, the answers, and the record of which client requested what.

pub(crate) mod audit;
pub(crate) mod bus;
pub(crate) mod command;
pub(crate) mod log_files;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod view;
