//! Finds the mistake inside the value of a key that is an object: the member, and what it takes.
//!
//! Used only for a value that is not valid: the sentence about the key as a whole would be long and would not name the
//! mistake.

use serde_json::Value;

use super::form::Fallback::{Value as Json, Words, Zero};
use super::form::{Fallback, Form, Member};
use super::objects::{is_check, not_zero, on_fail, probe, retries, share};
use super::read::{count_or_none, cpu, duration, found, memory_limit, nofile, ports, text};
use crate::spec::dependency::Condition;
use crate::spec::target;

/// A mistake in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The member with the mistake; empty for the value as a whole.
    pub member: String,
    /// The expected and the found value.
    pub what: String,
}

impl Mistake {
    /// A mistake of the value as a whole.
    pub(super) fn whole(what: String) -> Mistake {
        Mistake { member: String::new(), what }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.member.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.member, self.what) }
    }
}

const fn member(
    name: &'static str,
    form: Form,
    fallback: Fallback,
    does: &'static str,
    expects: &'static str,
    fits: fn(&Value) -> bool,
) -> Member {
    Member { name, form, fallback, does, expects, fits }
}

const SPAN: &str = "a time of more than 0, such as 500 (milliseconds) or \"5s\"";

pub(super) const HEALTH: &[Member] = &[
    member(
        "http",
        Form::Text,
        Words("none"),
        "a GET of this path or URL is answered with a status below 400",
        "a path such as \"/healthz\", or \"http://host:port/path\" (for HTTPS use `tcp` or \
             `exec`)",
        |v| is_probe("http", v),
    ),
    member("tcp", Form::Port, Words("none"), "a connection is accepted there", "a port, or \"host:port\"", |v| {
        is_probe("tcp", v)
    }),
    member(
        "exec",
        Form::Command,
        Words("none"),
        "a command ends with exit code 0",
        "a command line, or a list of words",
        |v| is_probe("exec", v),
    ),
    member(
        "log",
        Form::Text,
        Words("none"),
        "a line of its output has this text, or matches `/this expression/`; one match is enough",
        "a line of text, or \"/a regular expression/\"",
        |v| is_probe("log", v),
    ),
    member("interval", Form::Time { least: 1 }, Json("\"10s\""), "time between two checks", SPAN, |v| {
        duration(v).and_then(not_zero).is_ok()
    }),
    member("timeout", Form::Time { least: 1 }, Json("\"5s\""), "a check that takes longer has failed", SPAN, |v| {
        duration(v).and_then(not_zero).is_ok()
    }),
    member(
        "start_period",
        Form::Time { least: 0 },
        Json("0"),
        "least time that a process has for its first pass",
        "a time: milliseconds, or a text such as \"30s\"",
        |v| duration(v).is_ok(),
    ),
    member(
        "retries",
        Form::Count { least: 1, zero: false },
        Json("3"),
        "number of failures in a row that make a process unhealthy",
        "a whole number of at least 1",
        |v| retries(v).is_ok(),
    ),
    member(
        "on_fail",
        Form::Choice(&["restart", "alert", "none"]),
        Json("\"restart\""),
        "what is done about an unhealthy process",
        "\"restart\", \"alert\" or \"none\"",
        |v| on_fail(v).is_ok(),
    ),
];

pub(super) const LIMITS: &[Member] = &[
    member(
        "memory",
        Form::Size { least: 1 << 20 },
        Zero("no limit"),
        "as `max_memory`",
        "a size of at least 1M, such as \"300M\" or \"1G\"",
        |v| memory_limit(v).is_ok(),
    ),
    member(
        "cpu",
        Form::Processors,
        Zero("no limit"),
        "as `cpu`",
        "processors, such as 1.5, or a percentage of one, such as \"150%\"",
        |v| cpu(v).is_ok(),
    ),
    member("pids", Form::Count { least: 0, zero: true }, Zero("no limit"), "as `pids`", "a whole number", |v| {
        count_or_none(v).is_ok()
    }),
    member(
        "nofile",
        Form::Count { least: 16, zero: true },
        Zero("no limit of its own"),
        "as `nofile`",
        "a whole number from 16 to 4294967295",
        |v| nofile(v).is_ok(),
    ),
];

pub(super) const CLUSTER: &[Member] = &[
    member(
        "ports",
        Form::Numbers { from: 1, to: 65535 },
        Words("all"),
        "as `cluster_ports`",
        "numbers from 1 to 65535, one or a list",
        |v| ports(v).is_ok(),
    ),
    member("share", Form::Choice(&["own", "queue"]), Json("\"own\""), "as `share`", "\"own\" or \"queue\"", |v| {
        share(v).is_ok()
    }),
];

fn is_probe(name: &str, value: &Value) -> bool {
    probe(name, value).is_some_and(|read| read.is_ok())
}

pub(super) fn of_health(value: &Value) -> Option<Mistake> {
    of_members(value, HEALTH).or_else(|| {
        let probes: Vec<String> = value
            .as_object()?
            .iter()
            .filter(|(name, value)| !value.is_null() && is_check(name))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let what = match probes.len() {
            0 => "one of `http`, `tcp`, `exec` and `log` is missing".to_owned(),
            _ => format!("{} exclude each other: keep one", probes.join(" and ")),
        };
        Some(Mistake::whole(what))
    })
}

pub(super) fn of_limits(value: &Value) -> Option<Mistake> {
    of_members(value, LIMITS)
}

pub(super) fn of_cluster(value: &Value) -> Option<Mistake> {
    of_members(value, CLUSTER)
}

/// The members are names of apps, so only their values are checked.
pub(super) fn of_dependencies(value: &Value) -> Option<Mistake> {
    value.as_object()?.iter().find_map(|(app, value)| {
        let fits = text(value).is_ok_and(|word| Condition::of_word(&word).is_some());
        let what = || expected("\"started\", \"ready\", \"healthy\" or \"completed\"", value);
        (!fits).then(|| Mistake { member: app.clone(), what: what() })
    })
}

/// The first member that is unknown or not valid.
fn of_members(value: &Value, members: &[Member]) -> Option<Mistake> {
    value.as_object()?.iter().find_map(|(name, value)| {
        let what = match members.iter().find(|member| member.name == name) {
            Some(member) if value.is_null() || (member.fits)(value) => return None,
            Some(member) => expected(member.expects, value),
            None => unknown(name, members),
        };
        Some(Mistake { member: name.clone(), what })
    })
}

fn unknown(name: &str, members: &[Member]) -> String {
    let names: Vec<&str> = members.iter().map(|member| member.name).collect();
    match target::similar(name, &names).into_iter().next() {
        Some(near) => format!("unknown key, did you mean `{near}`?"),
        None => format!("unknown key; there is `{}`", names.join("`, `")),
    }
}

/// The sentence with the expected and the found value.
pub(super) fn expected(what: &str, value: &Value) -> String {
    format!("expected {what}, found {}", found(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(mistake: Option<Mistake>) -> String {
        mistake.map(|mistake| mistake.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_mistake_names_its_member() {
        for (value, mistake) in [
            (json!({"http": "/x", "intervall": "5s"}), "intervall: unknown key, did you mean `interval`?"),
            (json!({"http": "/x", "zzz": 1}), "zzz: unknown key; there is `http`, `tcp`, `exec`"),
            (json!({"http": "/x", "retries": -1}), "retries: expected a whole number of at least 1, found -1"),
            (json!({"http": "/x", "interval": 0}), "interval: expected a time of more than 0"),
            (json!({"http": "https://x/"}), "http: expected a path such as \"/healthz\""),
            (json!({"tcp": 70_000}), "tcp: expected a port, or \"host:port\", found 70000"),
            (json!({"interval": 5}), "one of `http`, `tcp`, `exec` and `log` is missing"),
            (json!({"http": "/a", "tcp": 1, "log": null}), "`http` and `tcp` exclude each other: keep one"),
        ] {
            assert!(shown(of_health(&value)).starts_with(mistake), "{value}: {}", shown(of_health(&value)));
        }
        assert_eq!(shown(of_health(&json!("up"))), "");
        assert_eq!(shown(of_limits(&json!({"memory": "300M", "pid": 5}))), "pid: unknown key, did you mean `pids`?");
        assert_eq!(shown(of_cluster(&json!({"share": 1}))), "share: expected \"own\" or \"queue\", found 1");
        let needs = shown(of_dependencies(&json!({"db": "ready", "mq": "helthy"})));
        assert_eq!(needs, "mq: expected \"started\", \"ready\", \"healthy\" or \"completed\", found \"helthy\"");
    }
}
