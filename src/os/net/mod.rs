//! Sockets: addresses, listeners, passing files over them, asking the kernel about connections, dealing connections
//! out.

pub mod address;
pub mod connection;
pub mod datagram;
pub mod diag;
pub mod fdpass;
pub mod reuseport;
pub mod socket;

/// Packets with open files, which the worker's end of a channel needs as well.
pub use pmr_worker::os::packets;
