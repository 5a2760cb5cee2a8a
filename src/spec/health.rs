//! How the health of a process is checked, in the terms of Docker and Kubernetes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

/// A check that is made again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next, once it has passed for the first time.
    #[serde(with = "value::millis")]
    pub interval: Duration,
    /// A check that takes longer has failed.
    #[serde(with = "value::millis")]
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy, at least 1.
    pub retries: u32,
    /// A process is given at least so long for its first pass.
    #[serde(with = "value::millis")]
    pub start_period: Duration,
    /// What is done about an unhealthy process.
    pub on_fail: OnFail,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `GET path` is answered with a status below 400.
    Http {
        /// `host:port`; without, the process itself over a connection of its own.
        address: Option<String>,
        /// From the slash on.
        path: String,
    },
    /// A connection is accepted.
    Tcp {
        /// `host:port`.
        address: String,
    },
}

/// What is done about an unhealthy process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// It is replaced: in a cluster by a successor that is healthy, elsewhere by a restart.
    #[default]
    Restart,
    /// An event tells of it.
    Alert,
    /// Nothing: it only shows in the list.
    None,
}

impl Health {
    /// With the usual times.
    #[must_use]
    pub fn new(probe: Probe) -> Health {
        Health {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 3,
            start_period: Duration::ZERO,
            on_fail: OnFail::default(),
        }
    }
}

impl Probe {
    /// Reads `/path`, or `http://host:port/path`.
    #[must_use]
    pub fn http(text: &str) -> Option<Probe> {
        let path_only = text.starts_with('/').then(|| (None, text.to_owned()));
        let url = || {
            let rest = text.strip_prefix("http://")?;
            let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
            let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
            has_port(&address).then(|| (Some(address), path.to_owned()))
        };
        let (address, path) = path_only.or_else(url)?;
        // It stands in a request line.
        let fits = path.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Probe::Http { address, path })
    }

    /// Reads `host:port` or `port`.
    #[must_use]
    pub fn tcp(text: &str) -> Option<Probe> {
        let address = if text.contains(':') { text.to_owned() } else { format!("127.0.0.1:{text}") };
        has_port(&address).then_some(Probe::Tcp { address })
    }
}

fn has_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let http = |address: Option<&str>, path: &str| {
            Some(Probe::Http { address: address.map(str::to_owned), path: path.to_owned() })
        };
        assert_eq!(Probe::http("/healthz?deep=1"), http(None, "/healthz?deep=1"));
        assert_eq!(Probe::http("http://127.0.0.1:3000/up"), http(Some("127.0.0.1:3000"), "/up"));
        assert_eq!(Probe::http("http://[::1]:3000"), http(Some("[::1]:3000"), "/"));
        assert_eq!(Probe::http("http://web/"), http(Some("web:80"), "/"));
        for wrong in ["", "healthz", "https://x/", "http://:80/", "http://x:0/", "/a b", "/a\r\nHost: x"] {
            assert_eq!(Probe::http(wrong), None, "{wrong}");
        }
        assert_eq!(Probe::tcp("5432"), Some(Probe::Tcp { address: "127.0.0.1:5432".into() }));
        assert!(Probe::tcp("db:5432").is_some() && Probe::tcp("db").is_none() && Probe::tcp("db:").is_none());
    }
}
