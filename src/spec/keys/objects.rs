//! Reads the values of keys that are objects of their own: `health`, `cluster`, `depends_on`.

use std::time::Duration;

use serde_json::Value;

use super::read::{Unfit, count, duration, name_or_number, ports, put, text};
use crate::spec::dependency::{self, Condition};
use crate::spec::health::{Health, OnFail, Probe};
use crate::spec::{Dependencies, Share, Sharing};

pub(super) fn health(value: &Value) -> Result<Health, Unfit> {
    let Value::Object(object) = value else {
        return Probe::http(&text(value)?).map(Health::new).ok_or(Unfit);
    };
    let probe = match (object.get("http"), object.get("tcp")) {
        (Some(http), None) => Probe::http(&text(http)?),
        (None, Some(tcp)) => Probe::tcp(&name_or_number(tcp)?),
        _ => None,
    };
    let mut health = Health::new(probe.ok_or(Unfit)?);
    for (name, value) in object {
        match name.as_str() {
            "http" | "tcp" => {}
            "interval" => put(&mut health.interval, duration(value).and_then(not_zero))?,
            "timeout" => put(&mut health.timeout, duration(value).and_then(not_zero))?,
            "start_period" => put(&mut health.start_period, duration(value))?,
            "retries" => put(&mut health.retries, count(value).and_then(|n| if n == 0 { Err(Unfit) } else { Ok(n) }))?,
            "on_fail" => put(&mut health.on_fail, on_fail(value))?,
            _ => return Err(Unfit),
        }
    }
    Ok(health)
}

fn not_zero(time: Duration) -> Result<Duration, Unfit> {
    if time.is_zero() { Err(Unfit) } else { Ok(time) }
}

fn on_fail(value: &Value) -> Result<OnFail, Unfit> {
    match text(value)?.as_str() {
        "restart" => Ok(OnFail::Restart),
        "alert" => Ok(OnFail::Alert),
        "none" => Ok(OnFail::None),
        _ => Err(Unfit),
    }
}

/// What a cluster shares, in one object.
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

/// `{db: "healthy"}`, or words such as `db` and `db:healthy`, one or several, parted by commas or in a list.
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
