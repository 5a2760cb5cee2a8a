//! Sockets that the supervisor opens for an app's processes (socket activation), and the rule by which idle processes
//! are stopped.
//!
//! A process inherits them from descriptor 3 on, as from systemd (`sd_listen_fds(3)`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

/// The sockets of an app, and how many of its processes run while it is idle. By default there are no sockets, and all
/// processes run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activation {
    /// The sockets, in the order of their descriptors.
    pub listen: Vec<Endpoint>,
    /// Time without a connection after which processes are stopped until the next connection.
    #[serde(with = "value::millis_option")]
    pub idle_timeout: Option<Duration>,
    /// Number of processes that stay then. `None` is 0.
    pub min_instances: Option<u32>,
}

impl Activation {
    /// True if nothing of it is set.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Activation::default()
    }
}

/// A socket that pmr opens for an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SerializedEndpoint", into = "SerializedEndpoint")]
pub struct Endpoint {
    /// The address it is bound to.
    pub address: Address,
    /// Its name in `LISTEN_FDNAMES`, if set.
    pub name: Option<String>,
    /// Permissions of a Unix path; [`DEFAULT_MODE`] if not set.
    pub mode: Option<u32>,
}

/// Default permissions of a Unix path: only the daemon's user may connect.
pub const DEFAULT_MODE: u32 = 0o600;
/// Limit of the path of a Unix socket, in bytes: the kernel's structure has 108 bytes, the last of them zero.
const LONGEST_PATH: usize = 107;

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `tcp://0.0.0.0:3000`, `tcp://[::1]:3000`
    Tcp(SocketAddr),
    /// `udp://0.0.0.0:53`. Datagrams in the socket are read before a worker leaves, or by the next one.
    Udp(SocketAddr),
    /// `unix:///run/app.sock`: a stream socket at an absolute path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "tcp://{address}"),
            Address::Udp(address) => write!(f, "udp://{address}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEndpoint(String);

impl fmt::Display for BadEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadEndpoint {}

fn bad(text: &str, why: &str) -> BadEndpoint {
    BadEndpoint(format!("`{text}`: {why}"))
}

impl FromStr for Address {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Address, BadEndpoint> {
        let scheme = "it begins with tcp://, udp:// or unix://";
        let (kind, rest) = text.split_once("://").ok_or_else(|| bad(text, scheme))?;
        match kind {
            "tcp" => ip(text, rest).map(Address::Tcp),
            "udp" => ip(text, rest).map(Address::Udp),
            "unix" => path(text, rest).map(Address::Unix),
            _ => Err(bad(text, scheme)),
        }
    }
}

/// `HOST:PORT`. Without a host, or with `*`: all addresses of both IP versions.
fn ip(text: &str, rest: &str) -> Result<SocketAddr, BadEndpoint> {
    let (host, port) = rest.rsplit_once(':').unwrap_or(("", rest));
    let port = port.parse().ok().filter(|port| *port > 0);
    let port: u16 = port.ok_or_else(|| bad(text, "it ends with a port from 1 to 65535"))?;
    let ip = match host {
        "" | "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => host.parse::<Ipv4Addr>().map(IpAddr::V4),
        }
        .map_err(|_| bad(text, "its host is an IP address (IPv6 in brackets), `localhost`, or `*` for all"))?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn path(text: &str, rest: &str) -> Result<PathBuf, BadEndpoint> {
    if !rest.starts_with('/') || rest.ends_with('/') || rest.contains('\0') {
        return Err(bad(text, "its path is absolute, as in unix:///run/app.sock"));
    }
    if rest.len() > LONGEST_PATH {
        return Err(bad(text, "the path of a socket has 107 bytes at most"));
    }
    Ok(rest.into())
}

/// The serialized form of an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SerializedEndpoint {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// In octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
}

impl TryFrom<SerializedEndpoint> for Endpoint {
    type Error = BadEndpoint;

    fn try_from(SerializedEndpoint { url, name, mode }: SerializedEndpoint) -> Result<Endpoint, BadEndpoint> {
        let address: Address = url.parse()?;
        if name.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(bad(&url, "its name is 1 to 255 visible characters other than `:`"));
        }
        let mode = match mode {
            None => None,
            Some(_) if !matches!(address, Address::Unix(_)) => return Err(bad(&url, "only Unix paths have a mode")),
            Some(digits) => {
                let mode = u32::from_str_radix(&digits, 8).ok().filter(|mode| *mode <= 0o777);
                Some(mode.ok_or_else(|| bad(&url, "its mode is octal, such as \"0660\""))?)
            }
        };
        Ok(Endpoint { address, name, mode })
    }
}

impl From<Endpoint> for SerializedEndpoint {
    fn from(endpoint: Endpoint) -> SerializedEndpoint {
        let mode = endpoint.mode.map(|mode| format!("{mode:04o}"));
        SerializedEndpoint { url: endpoint.address.to_string(), name: endpoint.name, mode }
    }
}

/// True if `sd_listen_fds_with_names(3)` accepts the name.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.chars().all(|c| c.is_ascii() && !c.is_ascii_control() && c != ':')
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    /// An address alone, or `NAME=ADDRESS`, as on the command line.
    fn from_str(text: &str) -> Result<Endpoint, BadEndpoint> {
        let named = text.split_once('=').filter(|(name, _)| !name.contains("://"));
        let (name, url) = named.map_or((None, text), |(name, url)| (Some(name.to_owned()), url));
        Endpoint::try_from(SerializedEndpoint { url: url.to_owned(), name, mode: None })
    }
}

impl Endpoint {
    /// Its name in `LISTEN_FDNAMES`: the one that is set, or `tcp-3000`, `udp-53`, `app.sock`.
    #[must_use]
    pub fn fd_name(&self) -> String {
        match (&self.name, &self.address) {
            (Some(name), _) => name.clone(),
            (None, Address::Tcp(address)) => format!("tcp-{}", address.port()),
            (None, Address::Udp(address)) => format!("udp-{}", address.port()),
            (None, Address::Unix(path)) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                name.filter(|name| is_name(name)).unwrap_or_else(|| "unix".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AppSpec, Balance, sample};
    use super::*;

    #[test]
    fn addresses_are_parsed_and_displayed() {
        for (text, shown) in [
            ("tcp://0.0.0.0:3000", "tcp://0.0.0.0:3000"),
            ("tcp://[::1]:80", "tcp://[::1]:80"),
            ("tcp://:3000", "tcp://[::]:3000"),
            ("tcp://*:3000", "tcp://[::]:3000"),
            ("tcp://3000", "tcp://[::]:3000"),
            ("tcp://localhost:3000", "tcp://127.0.0.1:3000"),
            ("udp://127.0.0.1:53", "udp://127.0.0.1:53"),
            ("unix:///run/x.sock", "unix:///run/x.sock"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn errors_of_addresses_name_the_reason() {
        let long = format!("unix:///{}", "x".repeat(107));
        for (text, why) in [
            ("0.0.0.0:3000", "begins with tcp://"),
            ("http://0.0.0.0:3000", "begins with tcp://"),
            ("tcp://0.0.0.0", "ends with a port"),
            ("tcp://0.0.0.0:0", "ends with a port"),
            ("tcp://0.0.0.0:70000", "ends with a port"),
            ("tcp://example.org:80", "its host is an IP address"),
            ("tcp://::1:80", "its host is an IP address"),
            ("unix://x.sock", "is absolute"),
            ("unix:///run/", "is absolute"),
            (&long, "107 bytes"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn endpoints_keep_their_names_and_modes_when_serialized() {
        let json = r#"{"url":"unix:///run/x.sock","name":"web","mode":"0660"}"#;
        let endpoint: Endpoint = serde_json::from_str(json).unwrap();
        assert_eq!((endpoint.fd_name().as_str(), endpoint.mode), ("web", Some(0o660)));
        assert_eq!(serde_json::to_string(&endpoint).unwrap(), json);
        let named: Endpoint = "api=tcp://:80".parse().unwrap();
        assert_eq!((named.fd_name().as_str(), named.mode), ("api", None));
        for (text, name) in [("tcp://:80", "tcp-80"), ("udp://:53", "udp-53"), ("unix:///run/a.sock", "a.sock")] {
            assert_eq!(text.parse::<Endpoint>().unwrap().fd_name(), name);
        }
        for (json, why) in [
            (r#"{"url":"tcp://:80","mode":"0600"}"#, "only Unix paths"),
            (r#"{"url":"unix:///x","mode":"9"}"#, "octal"),
            (r#"{"url":"unix:///x","mode":"7777"}"#, "octal"),
            (r#"{"url":"tcp://:80","name":"a:b"}"#, "visible characters"),
            (r#"{"url":"tcp://:80","backlog":4}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<Endpoint>(json).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn contradictory_socket_settings_are_found() {
        let spec = |listen: &[&str], idle: Option<u64>, least| AppSpec {
            activation: Activation {
                listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
                idle_timeout: idle.map(Duration::from_secs),
                min_instances: least,
            },
            ..sample()
        };
        assert_eq!(spec(&[], None, None).contradiction(), None);
        assert_eq!(spec(&["tcp://:80", "udp://:80"], None, None).contradiction(), None);
        assert_eq!(spec(&["tcp://:80", "unix:///x"], Some(5), Some(0)).contradiction(), None);
        let key = |spec: AppSpec| spec.contradiction().map(|(key, _)| key);
        assert_eq!(key(spec(&[], Some(5), None)), Some("idle_timeout"));
        assert_eq!(key(spec(&["udp://:80"], Some(5), None)), Some("idle_timeout"));
        assert_eq!(key(spec(&["tcp://:80"], None, Some(0))), Some("min_instances"));
        assert_eq!(key(spec(&["tcp://:80"], Some(5), Some(2))), Some("min_instances"));
        assert_eq!(key(spec(&["tcp://:80", "x=tcp://:80"], None, None)), Some("listen"));
        let dealt = |balance, listen: &[&str]| key(AppSpec { balance, ..spec(listen, None, None) });
        assert_eq!(dealt(Balance::Sticky, &["tcp://:80"]), None);
        assert_eq!(dealt(Balance::Sticky, &["udp://:53", "unix:///x"]), None);
        assert_eq!(dealt(Balance::Sticky, &["unix:///x"]), Some("balance"));
        assert_eq!(dealt(Balance::Least, &["tcp://:80"]), Some("balance"));
    }
}
