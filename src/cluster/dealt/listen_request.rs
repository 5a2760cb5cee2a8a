//! What a worker wants to listen on: from its request to an address that can be bound. Worded as Node does; requests on
//! pmr's own channel are translated.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::os::net::socket::Place;

/// libuv's flags.
const IPV6_ONLY: u32 = 1;
const UDP_REUSE_ADDRESS: u32 = 4;

/// A worker's request to listen.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListenRequest<'a> {
    /// The number of the request, which the reply repeats.
    pub(crate) seq: u64,
    /// Counts equal calls in that worker; matters with port 0.
    pub(crate) index: u64,
    /// IP address or path; `None` for any address.
    pub(crate) address: Option<String>,
    /// -1 with a path.
    pub(crate) port: Option<i64>,
    /// `None` with a file descriptor.
    pub(crate) address_type: Option<AddressType>,
    /// A file descriptor of the primary, or -1.
    pub(crate) fd: Option<i64>,
    /// libuv's flags.
    pub(crate) flags: Option<u32>,
    /// The length of the accept queue. Node sends `false` where it has no meaning.
    pub(crate) backlog: Option<Number>,
    /// Whether all users may read the socket file.
    pub(crate) readable_all: Option<bool>,
    /// Whether all users may write to the socket file.
    pub(crate) writable_all: Option<bool>,
    /// TLS ticket keys: all workers get those of the first.
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

/// What kind of socket a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressType {
    /// TCP over IPv4, or over any version of IP if no address is given.
    V4,
    /// TCP over IPv6.
    V6,
    /// A Unix path.
    Unix,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

impl AddressType {
    fn parse(value: &Value) -> Option<AddressType> {
        match value {
            Value::String(word) if word == "udp4" => Some(AddressType::Udp4),
            Value::String(word) if word == "udp6" => Some(AddressType::Udp6),
            Value::Number(number) => match number.as_i64() {
                Some(4) => Some(AddressType::V4),
                Some(6) => Some(AddressType::V6),
                Some(-1) => Some(AddressType::Unix),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for AddressType {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<AddressType, D::Error> {
        let value = Value::deserialize(from)?;
        AddressType::parse(&value).ok_or_else(|| serde::de::Error::custom("unknown address type"))
    }
}

/// A number, or one of the things that JavaScript code passes for one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Is(i64),
    /// `false`, most often.
    Not(bool),
}

impl Number {
    /// The number; 0 for `false`.
    pub(crate) fn value(self) -> i64 {
        match self {
            Number::Is(number) => number,
            Number::Not(truth) => i64::from(truth),
        }
    }
}

impl ListenRequest<'_> {
    /// Equal for workers that mean the same listener. The n-th `listen(0)` of each worker means the same port.
    pub(crate) fn name(&self) -> String {
        let port = self.port.unwrap_or(-1);
        let index = if port == 0 { self.index } else { 0 };
        let address = self.address.as_deref().unwrap_or("*");
        format!("{address}:{port}:{:?}:{index}", self.address_type)
    }

    /// Where to bind a stream socket. An error is the errno for the worker.
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

    /// The IP address and port. An error is the errno for the worker.
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

    /// True if other sockets may bind the address, too.
    pub(crate) fn reuses_address(&self) -> bool {
        self.flags.unwrap_or(0) & UDP_REUSE_ADDRESS != 0
    }

    pub(crate) fn is_udp(&self) -> bool {
        matches!(self.address_type, Some(AddressType::Udp4 | AddressType::Udp6))
    }

    /// The address that the worker names, for people. A port of 0 is shown as it is.
    pub(crate) fn display_address(&self) -> String {
        let port = self.port.unwrap_or(0);
        let host = self.address.as_deref();
        match (self.address_type, host) {
            (Some(AddressType::Unix), Some(path)) => path.to_owned(),
            (Some(AddressType::V6), Some(host)) => format!("[{host}]:{port}"),
            (Some(AddressType::Udp6), Some(host)) => format!("udp [{host}]:{port}"),
            (Some(AddressType::Udp6), None) => format!("udp [::]:{port}"),
            (Some(AddressType::Udp4), host) => format!("udp {}:{port}", host.unwrap_or("0.0.0.0")),
            (_, Some(host)) => format!("{host}:{port}"),
            (_, None) => format!("[::]:{port}"),
        }
    }
}
