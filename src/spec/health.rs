//! Health checks of processes, in the terms of Docker and Kubernetes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::value;

/// A health check, repeated at an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How the process is probed.
    pub probe: Probe,
    /// Time from one check to the next, after the first pass.
    #[serde(with = "value::millis")]
    pub interval: Duration,
    /// Time after which a check has failed.
    #[serde(with = "value::millis")]
    pub timeout: Duration,
    /// Number of failures in a row that make the process unhealthy, at least 1.
    pub retries: u32,
    /// Least time that a process has for its first pass.
    #[serde(with = "value::millis")]
    pub start_period: Duration,
    /// What is done about an unhealthy process.
    pub on_fail: OnFail,
}

/// How a process is probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `GET path` is answered with a status below 400.
    Http {
        /// `host:port`. Without it, or if it is one of the app's own sockets, the process itself is probed over a
        /// connection of its own.
        address: Option<String>,
        /// Path and query, from the slash on.
        path: String,
    },
    /// A connection is accepted.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A command ends with exit code 0.
    Exec(Command),
    /// A line of its output matches. After one match the process stays healthy.
    Log(Pattern),
}

/// A command as it is written in the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// A command line for the shell. Not blank.
    Line(String),
    /// A program and its arguments. Not empty.
    Words(Vec<String>),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Line(line) => f.write_str(line.trim()),
            Command::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// A text, or a regular expression between slashes, that a line of output must contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    source: String,
}

impl Pattern {
    /// The equivalent regular expression, in the syntax of the crate `regex`. It can be compiled.
    #[must_use]
    pub fn expression(&self) -> String {
        match between_slashes(&self.source) {
            Some(expression) => expression.to_owned(),
            None => regex::escape(&self.source),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.source
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(source: String) -> Result<Pattern, String> {
        if source.trim().is_empty() || source.contains('\n') || between_slashes(&source) == Some("") {
            return Err("it is one line of text, or a regular expression between slashes".to_owned());
        }
        let pattern = Pattern { source };
        regex::bytes::Regex::new(&pattern.expression()).map(|_| pattern).map_err(|error| error.to_string())
    }
}

fn between_slashes(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/')
}

/// What is done about an unhealthy process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// It is replaced: in a cluster by a successor that is healthy, elsewhere by a restart.
    #[default]
    Restart,
    /// Records an event.
    Alert,
    /// Nothing is done; the list shows the process as unhealthy.
    None,
}

impl Health {
    /// A check with the default times.
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

    /// True if interval, timeout, retries or consequence are set.
    pub(super) fn is_timed(&self) -> bool {
        *self != Health { start_period: self.start_period, ..Health::new(self.probe.clone()) }
    }
}

impl Probe {
    /// Parses the short form: what [`Probe::http`] parses, `tcp:PORT`, `exec:COMMAND` or `log:TEXT`.
    #[must_use]
    pub fn short(text: &str) -> Option<Probe> {
        match text.split_once(':') {
            Some(("tcp", rest)) => Probe::tcp(rest.strip_prefix("//").unwrap_or(rest)),
            Some(("exec", line)) => Probe::exec(line),
            Some(("log", pattern)) => Probe::log(pattern),
            Some(_) | None => Probe::http(text),
        }
    }

    /// Parses a command line.
    #[must_use]
    pub fn exec(line: &str) -> Option<Probe> {
        (!line.trim().is_empty()).then(|| Probe::Exec(Command::Line(line.to_owned())))
    }

    /// Parses `text` or `/expression/`.
    #[must_use]
    pub fn log(pattern: &str) -> Option<Probe> {
        Pattern::try_from(pattern.to_owned()).ok().map(Probe::Log)
    }

    /// The reason why a `log` probe has not passed; other probes report their own reasons.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        match self {
            Probe::Log(pattern) => Some(format!("no line of its output has `{pattern}`")),
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::Exec(_) => None,
        }
    }

    /// Parses `/path`, or `http://host:port/path`.
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
        // The path is put into a request line.
        let fits = path.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Probe::Http { address, path })
    }

    /// Parses `host:port` or `port`.
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
    use super::super::{Activation, AppSpec, Balance, ExecMode, sample};
    use super::*;

    #[test]
    fn http_and_tcp_probes_are_parsed() {
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

    #[test]
    fn short_forms_of_probes_are_parsed() {
        for (short, long) in [
            ("/up", Probe::http("/up")),
            ("http://x:80/up", Probe::http("http://x:80/up")),
            ("tcp:5432", Probe::tcp("5432")),
            ("tcp://db:5432", Probe::tcp("db:5432")),
            ("exec:pg_isready -h a:b", Probe::exec("pg_isready -h a:b")),
            ("log:listening on: 80", Probe::log("listening on: 80")),
            ("log:/port \\d+$/", Probe::log("/port \\d+$/")),
        ] {
            assert!(long.is_some() && Probe::short(short) == long, "{short}");
        }
        for wrong in ["", "up", "tcp:", "exec:", "exec:  ", "log:", "log: ", "log://", "log:/(/", "log:a\nb", "smtp:25"]
        {
            assert_eq!(Probe::short(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_pattern_is_a_text_or_an_expression_and_is_serialized_unchanged() {
        let finds = |source: &str, line: &[u8]| {
            let pattern = Pattern::try_from(source.to_owned()).unwrap();
            assert_eq!(serde_json::from_value::<Pattern>(serde_json::to_value(&pattern).unwrap()).unwrap(), pattern);
            regex::bytes::Regex::new(&pattern.expression()).unwrap().is_match(line)
        };
        assert!(finds("up (1.0)", b"it is up (1.0) now") && !finds("up (1.0)", b"it is up (1x0)"));
        assert!(finds("/v1/ready", b"GET /v1/ready") && finds("/^up \\d+$/", b"up 17") && !finds("/^up/", b"it is up"));
        assert!(finds("up", b"\xff\xfe up \xff"));
        assert!(serde_json::from_str::<Pattern>(r#""/(/""#).is_err());
    }

    #[test]
    fn impossible_checks_are_contradictions() {
        let spec = |probe: Option<Probe>, change: fn(&mut Health)| {
            let mut health = Health::new(probe.unwrap());
            change(&mut health);
            AppSpec { health: Some(health), ..sample() }
        };
        let why = |spec: AppSpec| spec.contradiction().map(|(key, why)| format!("{key}: {why}")).unwrap_or_default();
        let own = spec(Probe::http("/up"), |_| ());
        assert!(why(own.clone()).ends_with("name where `app` listens: http://127.0.0.1:PORT/up"));
        let cluster = AppSpec { mode: ExecMode::Cluster, ..own.clone() };
        assert_eq!(why(cluster.clone()), "");
        let by_exec = spec(Probe::exec("true"), |health| health.retries = 1);
        let by_exec = AppSpec { mode: ExecMode::Cluster, ..by_exec };
        assert!(cluster.checks_each_worker() && !own.checks_each_worker() && !by_exec.checks_each_worker());
        let listen = vec!["tcp://127.0.0.1:3000".parse().unwrap()];
        let activation = Activation { listen, ..Activation::default() };
        let at = |address| AppSpec {
            activation: activation.clone(),
            mode: ExecMode::Cluster,
            ..spec(Probe::http(address), |_| ())
        };
        assert!(at("http://localhost:3000/up").checks_each_worker());
        assert!(!at("http://localhost:3001/up").checks_each_worker());
        assert_ne!(why(AppSpec { balance: Balance::Shared, ..cluster }), "");
        assert_eq!(why(spec(Probe::log("up"), |health| health.start_period = Duration::from_secs(9))), "");
        assert!(why(spec(Probe::log("up"), |health| health.retries = 1)).contains("awaited once"));
        assert_eq!(why(spec(Probe::exec("true"), |health| health.retries = 1)), "");
    }
}
