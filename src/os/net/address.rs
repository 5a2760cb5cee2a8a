//! Socket addresses as programs pass them to `bind`. The bytes are passed to the kernel unchanged, so that it reports
//! the same errors.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use serde::{Deserialize, Serialize};

/// Length of the longest address, `struct sockaddr_storage`, in bytes.
pub const LONGEST: usize = size_of::<libc::sockaddr_storage>();

/// A `struct sockaddr` of any family, valid or not.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    bytes: Vec<u8>,
}

impl Address {
    /// An address of these bytes.
    ///
    /// # Errors
    /// `EINVAL` if it is longer than the kernel accepts.
    pub fn new(bytes: Vec<u8>) -> io::Result<Address> {
        if bytes.len() > LONGEST {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Address { bytes })
    }

    /// Its family: `AF_INET` and so on; `AF_UNSPEC` if it is too short to have one.
    #[must_use]
    pub fn family(&self) -> i32 {
        self.field(0).map_or(libc::AF_UNSPEC, |bytes| i32::from(u16::from_ne_bytes(bytes)))
    }

    /// IP address and port, if it is an IP address. The kernel takes the unspecified family with all zeros for IPv4,
    /// too.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.field(2)?);
        match self.family() {
            libc::AF_INET => Some(SocketAddrV4::new(self.v4()?, port).into()),
            libc::AF_UNSPEC if self.v4()?.is_unspecified() => Some(SocketAddrV4::new(self.v4()?, port).into()),
            libc::AF_INET6 => {
                let flow = u32::from_be_bytes(self.field(4)?);
                let ip = Ipv6Addr::from(self.field::<16>(8)?);
                // The scope was added by RFC 2553; an address without it is valid.
                let scope = self.field(24).map_or(0, u32::from_ne_bytes);
                Some(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => None,
        }
    }

    fn v4(&self) -> Option<Ipv4Addr> {
        // The last 8 of the 16 bytes of the structure have no meaning, but the kernel requires them.
        (self.bytes.len() >= 16).then_some(())?;
        self.field::<4>(4).map(Ipv4Addr::from)
    }

    fn field<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at + N)?.try_into().ok()
    }

    /// `bind(2)` with exactly these bytes.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn bind(&self, socket: impl AsFd) -> io::Result<()> {
        let length = libc::socklen_t::try_from(self.bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel reads as many bytes as the vector has.
        match unsafe { libc::bind(socket.as_fd().as_raw_fd(), self.bytes.as_ptr().cast(), length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let mut bytes = vec![0; if address.is_ipv4() { 16 } else { 28 }];
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        bytes[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.ip().octets()),
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
        Address { bytes }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(ip) => write!(f, "{ip}"),
            None => write!(f, "family {} {:02x?}", self.family(), self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_address_is_decoded_as_it_was_encoded() {
        for text in ["127.0.0.1:80", "0.0.0.0:0", "[::]:8080", "[fe80::1%3]:65535"] {
            let ip: SocketAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(address.ip(), Some(ip));
            assert_eq!(Address::new(address.bytes.clone()).unwrap(), address);
        }
        let mut long = Address::from("1.2.3.4:5".parse::<SocketAddr>().unwrap()).bytes;
        long.resize(LONGEST, 7);
        assert_eq!(Address::new(long).unwrap().ip(), Some("1.2.3.4:5".parse().unwrap()), "sockaddr_storage");
    }

    #[test]
    fn other_bytes_are_no_ip_address() {
        for bytes in [vec![], vec![2], vec![2, 0, 0, 80, 1, 2, 3], vec![1, 0, b'/', b'x'], vec![0; 8]] {
            assert_eq!(Address::new(bytes).unwrap().ip(), None);
        }
        let mut unspecified = vec![0; 16];
        unspecified[3] = 80;
        assert_eq!(Address::new(unspecified).unwrap().ip(), Some("0.0.0.0:80".parse().unwrap()));
        assert!(Address::new(vec![0; LONGEST + 1]).is_err());
    }

    #[test]
    fn bind_returns_the_error_of_the_kernel() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let again = Address::from(socket.local_addr().unwrap());
        assert_eq!(again.bind(&socket).unwrap_err().raw_os_error(), Some(libc::EINVAL), "bound already");
        let short = Address::new(vec![2, 0, 0, 0]).unwrap();
        assert_eq!(short.bind(&socket).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
