//! Sockets opened for workers.
