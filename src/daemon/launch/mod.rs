//! Starting a process: its command line, environment, descriptors, limits and the watch on its binds.

pub(crate) mod bind_watch;
pub(crate) mod child_fds;
pub(crate) mod confine;
pub(crate) mod environment;
pub(crate) mod given_sockets;
pub(crate) mod spawn;
