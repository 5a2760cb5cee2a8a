//! Parses the values of keys that are objects: `health`, `cluster`, `depends_on`.

use std::time::Duration;

use serde_json::Value;

use super::read::{Unfit, count, duration, name_or_number, ports, put, text};
use crate::spec::dependency::{self, Condition};
use crate::spec::health::{Command, Health, OnFail, Probe};
use crate::spec::{Dependencies, Share, Sharing};

pub(super) fn health(value: &Value) -> Result<Health, Unfit> {
    let Value::Object(object) = value else {
        return Probe::short(&text(value)?).map(Health::new).ok_or(Unfit);
    };
    let set_members = || object.iter().filter(|(_, value)| !value.is_null());
    let mut probes = set_members().filter_map(|(name, value)| probe(name, value));
    let (Some(probe), None) = (probes.next(), probes.next()) else { return Err(Unfit) };
    let mut health = Health::new(probe?);
    for (name, value) in set_members() {
        match name.as_str() {
            _ if is_check(name) => {}
            "interval" => put(&mut health.interval, duration(value).and_then(not_zero))?,
            "timeout" => put(&mut health.timeout, duration(value).and_then(not_zero))?,
            "start_period" => put(&mut health.start_period, duration(value))?,
            "retries" => put(&mut health.retries, retries(value))?,
            "on_fail" => put(&mut health.on_fail, on_fail(value))?,
            _ => return Err(Unfit),
        }
    }
    Ok(health)
}

/// The members of `health` that are probes: a check has exactly one of them.
pub const PROBES: [&str; 4] = ["http", "tcp", "exec", "log"];

/// True for the members that are probes.
pub(super) fn is_check(name: &str) -> bool {
    PROBES.contains(&name)
}

/// Parses a probe; `None` if `name` is no probe.
pub(super) fn probe(name: &str, value: &Value) -> Option<Result<Probe, Unfit>> {
    let read = match name {
        "http" => text(value).map(|text| Probe::http(&text)),
        "tcp" => name_or_number(value).map(|text| Probe::tcp(&text)),
        "exec" => match value {
            Value::Array(words) => words.iter().map(text).collect::<Result<_, _>>().map(program),
            _ => text(value).map(|line| Probe::exec(&line)),
        },
        "log" => text(value).map(|pattern| Probe::log(&pattern)),
        _ => return None,
    };
    Some(read.and_then(|probe| probe.ok_or(Unfit)))
}

/// A program and its arguments.
fn program(words: Vec<String>) -> Option<Probe> {
    words.first().is_some_and(|program| !program.is_empty()).then_some(Probe::Exec(Command::Words(words)))
}

pub(super) fn retries(value: &Value) -> Result<u32, Unfit> {
    count(value).and_then(|count| if count == 0 { Err(Unfit) } else { Ok(count) })
}

pub(super) fn not_zero(time: Duration) -> Result<Duration, Unfit> {
    if time.is_zero() { Err(Unfit) } else { Ok(time) }
}

pub(super) fn on_fail(value: &Value) -> Result<OnFail, Unfit> {
    match text(value)?.as_str() {
        "restart" => Ok(OnFail::Restart),
        "alert" => Ok(OnFail::Alert),
        "none" => Ok(OnFail::None),
        _ => Err(Unfit),
    }
}

/// Parses the object `cluster`.
pub(super) fn cluster(sharing: &mut Sharing, value: &Value) -> Result<(), Unfit> {
    let Value::Object(object) = value else { return Err(Unfit) };
    for (name, value) in object {
        match name.as_str() {
            _ if value.is_null() => {}
            "ports" => put(&mut sharing.ports, ports(value))?,
            "share" => put(&mut sharing.share, share(value))?,
            _ => return Err(Unfit),
        }
    }
    Ok(())
}

pub(super) fn share(value: &Value) -> Result<Share, Unfit> {
    match value.as_str() {
        Some("own") => Ok(Share::Own),
        Some("queue") => Ok(Share::Queue),
        _ => Err(Unfit),
    }
}

/// Parses `{db: "healthy"}`, or texts such as `db` and `db:healthy`, separated by commas or in a list.
pub(super) fn dependencies(value: &Value) -> Result<Dependencies, Unfit> {
    let words = match value {
        Value::Object(object) => {
            let one = |(app, value): (&String, &Value)| {
                let condition = Condition::of_word(&text(value)?).ok_or(Unfit)?;
                if app.trim().is_empty() { Err(Unfit) } else { Ok((app.clone(), condition)) }
            };
            return object.iter().map(one).collect();
        }
        Value::Array(items) => items.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        _ => vec![text(value)?],
    };
    let words = words.iter().flat_map(|word| word.split(','));
    words.map(|word| dependency::parse(word).ok_or(Unfit)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn health_is_a_short_form_or_an_object() {
        assert_eq!(health(&json!("/up")), Ok(Health::new(Probe::http("/up").unwrap())));
        assert_eq!(health(&json!("exec:pg_isready -q")), Ok(Health::new(Probe::exec("pg_isready -q").unwrap())));
        let tcp = health(&json!({ "tcp": 5432, "interval": "2s", "retries": 1, "on_fail": "alert" }));
        let probe = Probe::Tcp { address: "127.0.0.1:5432".to_owned() };
        let interval = Duration::from_secs(2);
        assert_eq!(tcp, Ok(Health { interval, retries: 1, on_fail: OnFail::Alert, ..Health::new(probe) }));
        let line = health(&json!({ "exec": "pg_isready -q", "timeout": 500 })).unwrap();
        assert_eq!(line.probe, Probe::Exec(Command::Line("pg_isready -q".to_owned())));
        let words = health(&json!({ "exec": ["test", "-z", ""] })).unwrap();
        assert_eq!(words.probe, Probe::Exec(Command::Words(["test", "-z", ""].map(str::to_owned).into())));
        assert_eq!(health(&json!({ "http": "/up", "tcp": null, "retries": null })), health(&json!("/up")));
        let log = health(&json!({ "log": "/up|ready/", "start_period": "1m" })).unwrap();
        assert_eq!((log.probe, log.start_period), (Probe::log("/up|ready/").unwrap(), Duration::from_secs(60)));
        for wrong in [
            json!({}),
            json!({ "http": "/a", "tcp": 1 }),
            json!({ "exec": "true", "log": "up" }),
            json!({ "exec": [] }),
            json!({ "exec": ["", "x"] }),
            json!({ "exec": ["ls", 5] }),
            json!({ "exec": "" }),
            json!({ "log": "/(/" }),
            json!({ "http": "/a", "retries": 0 }),
            json!({ "http": "/a", "interval": 0 }),
            json!({ "http": "/a", "period": 5 }),
            json!("up"),
        ] {
            assert_eq!(health(&wrong), Err(Unfit), "{wrong}");
        }
    }
}
