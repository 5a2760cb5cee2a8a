//! Sockets: addresses, listeners, passing files, the kernel's information on connections, sharing a port.

pub mod address;
pub mod connection;
pub mod datagram;
pub mod diag;
pub mod fdpass;
pub mod reuseport;
pub mod socket;

/// Packets with open files. The worker library uses them, too, so they are defined there.
pub use pmr_worker::os::packets;
