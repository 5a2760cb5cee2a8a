//! What is wrong inside the value of a key that is an object: which member, and what it takes.
//!
//! Asked only when a value was found not to fit; the sentence of the key as a whole would be long and say nothing.

use serde_json::Value;

use super::objects::{is_check, not_zero, on_fail, probe, retries, share};
use super::read::{count_or_none, cpu, duration, found, memory_limit, nofile, ports, text};
use crate::spec::dependency::Condition;
use crate::spec::target;

/// What is wrong with a value, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The member that is wrong; empty if it is the value as a whole.
    pub member: String,
    /// What was expected and what was found.
    pub what: String,
}

impl Mistake {
    /// The value as a whole.
    pub(super) fn whole(what: String) -> Mistake {
        Mistake { member: String::new(), what }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.member.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.member, self.what) }
    }
}

/// A member, what values it takes in words, and whether one does.
type Member = (&'static str, &'static str, fn(&Value) -> bool);

const SPAN: &str = "a time of more than 0, such as 500 (milliseconds) or \"5s\"";

const HEALTH: &[Member] = &[
    ("http", "a path such as \"/healthz\", or \"http://host:port/path\" (for HTTPS use `tcp` or `exec`)", |v| {
        is_probe("http", v)
    }),
    ("tcp", "a port, or \"host:port\"", |v| is_probe("tcp", v)),
    ("exec", "a command line, or a list of words", |v| is_probe("exec", v)),
    ("log", "a line of text, or \"/a regular expression/\"", |v| is_probe("log", v)),
    ("interval", SPAN, |v| duration(v).and_then(not_zero).is_ok()),
    ("timeout", SPAN, |v| duration(v).and_then(not_zero).is_ok()),
    ("start_period", "a time: milliseconds, or a text such as \"30s\"", |v| duration(v).is_ok()),
    ("retries", "a whole number of at least 1", |v| retries(v).is_ok()),
    ("on_fail", "\"restart\", \"alert\" or \"none\"", |v| on_fail(v).is_ok()),
];

const LIMITS: &[Member] = &[
    ("memory", "a size of at least 1M, such as \"300M\" or \"1G\"", |v| memory_limit(v).is_ok()),
    ("cpu", "processors, such as 1.5, or a percentage of one, such as \"150%\"", |v| cpu(v).is_ok()),
    ("pids", "a whole number", |v| count_or_none(v).is_ok()),
    ("nofile", "a whole number of at least 16", |v| nofile(v).is_ok()),
];

const CLUSTER: &[Member] = &[
    ("ports", "numbers from 1 to 65535, one or a list", |v| ports(v).is_ok()),
    ("share", "\"own\" or \"queue\"", |v| share(v).is_ok()),
];

fn is_probe(name: &str, value: &Value) -> bool {
    probe(name, value).is_some_and(|read| read.is_ok())
}

pub(super) fn of_health(value: &Value) -> Option<Mistake> {
    of_members(value, HEALTH).or_else(|| {
        let asked: Vec<String> = value
            .as_object()?
            .iter()
            .filter(|(name, value)| !value.is_null() && is_check(name))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let what = match asked.len() {
            0 => "one of `http`, `tcp`, `exec` and `log` is missing: what shall be asked?".to_owned(),
            _ => format!("{} exclude each other: keep one", asked.join(" and ")),
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

/// The names of apps are anybody's choice.
pub(super) fn of_dependencies(value: &Value) -> Option<Mistake> {
    value.as_object()?.iter().find_map(|(app, value)| {
        let fits = text(value).is_ok_and(|word| Condition::of_word(&word).is_some());
        let what = || expected("\"started\", \"ready\", \"healthy\" or \"completed\"", value);
        (!fits).then(|| Mistake { member: app.clone(), what: what() })
    })
}

/// The first member that is unknown or does not fit.
fn of_members(value: &Value, members: &[Member]) -> Option<Mistake> {
    value.as_object()?.iter().find_map(|(name, value)| {
        let what = match members.iter().find(|(known, ..)| known == name) {
            Some((_, _, fits)) if value.is_null() || fits(value) => return None,
            Some((_, expects, _)) => expected(expects, value),
            None => unknown(name, members),
        };
        Some(Mistake { member: name.clone(), what })
    })
}

fn unknown(name: &str, members: &[Member]) -> String {
    let names: Vec<&str> = members.iter().map(|(name, ..)| *name).collect();
    match target::similar(name, &names).into_iter().next() {
        Some(near) => format!("unknown key, did you mean `{near}`?"),
        None => format!("unknown key; there is `{}`", names.join("`, `")),
    }
}

/// What a value was to be, and what it is.
pub(super) fn expected(what: &str, value: &Value) -> String {
    format!("expected {what}, found {}", found(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(mistake: Option<Mistake>) -> String {
        mistake.map(|mistake| mistake.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_member_that_is_wrong_is_named() {
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
            assert!(told(of_health(&value)).starts_with(mistake), "{value}: {}", told(of_health(&value)));
        }
        assert_eq!(told(of_health(&json!("up"))), "");
        assert_eq!(told(of_limits(&json!({"memory": "300M", "pid": 5}))), "pid: unknown key, did you mean `pids`?");
        assert_eq!(told(of_cluster(&json!({"share": 1}))), "share: expected \"own\" or \"queue\", found 1");
        let needs = told(of_dependencies(&json!({"db": "ready", "mq": "helthy"})));
        assert_eq!(needs, "mq: expected \"started\", \"ready\", \"healthy\" or \"completed\", found \"helthy\"");
    }
}
