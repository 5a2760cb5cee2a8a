//! Where a worker wants to listen: from its question to an address that can be bound.

use std::net::SocketAddr;

use super::node::message::{AddressType, Query};
use crate::os::net::socket::Place;

/// libuv's flags.
const IPV6_ONLY: u32 = 1;
const UDP_REUSE_ADDRESS: u32 = 4;

impl Query<'_> {
    /// Equal for workers that mean the same listener. The n-th `listen(0)` of each means the same port.
    pub(crate) fn name(&self) -> String {
        let port = self.port.unwrap_or(-1);
        let index = if port == 0 { self.index } else { 0 };
        let address = self.address.as_deref().unwrap_or("*");
        format!("{address}:{port}:{:?}:{index}", self.address_type)
    }

    pub(crate) fn place(&self) -> Result<Place, i32> {
        let (kind, address) = (self.address_type.ok_or(libc::EINVAL)?, self.address.as_deref());
        match (kind, address) {
            (AddressType::Unix, Some(path)) => Ok(Place::Unix {
                path: path.into(),
                readable_all: self.readable_all == Some(true),
                writable_all: self.writable_all == Some(true),
            }),
            (AddressType::V4 | AddressType::V6, None) => Ok(Place::AnyAddress { port: self.port()? }),
            (AddressType::V4 | AddressType::V6, Some(_)) => {
                Ok(Place::Tcp { address: self.ip()?, v6only: self.v6only() })
            }
            _ => Err(libc::EINVAL),
        }
    }

    pub(crate) fn ip(&self) -> Result<SocketAddr, i32> {
        let any = if self.address_type == Some(AddressType::Udp6) { "::" } else { "0.0.0.0" };
        let host = self.address.as_deref().filter(|host| !host.is_empty()).unwrap_or(any);
        let ip = host.parse().map_err(|_| libc::EINVAL)?;
        Ok(SocketAddr::new(ip, self.port()?))
    }

    fn port(&self) -> Result<u16, i32> {
        self.port.and_then(|port| u16::try_from(port).ok()).ok_or(libc::EINVAL)
    }

    pub(crate) fn v6only(&self) -> bool {
        self.flags.unwrap_or(0) & IPV6_ONLY != 0
    }

    /// Other sockets may bind there, too.
    pub(crate) fn reuses_address(&self) -> bool {
        self.flags.unwrap_or(0) & UDP_REUSE_ADDRESS != 0
    }

    pub(crate) fn is_udp(&self) -> bool {
        matches!(self.address_type, Some(AddressType::Udp4 | AddressType::Udp6))
    }
}
