//! Parses JSON values with PM2's leniency: `"4000"` is a number, `"a b"` a list of words, `true` in an environment the
//! text `true`.
//!
//! The parsers only report that a value is not valid; the row of the key has the valid values.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::spec::activation::Endpoint;
use crate::spec::value::{parse_bytes, parse_duration, split_words};
use crate::spec::{Balance, Confinement, Env, ExecMode, LogTarget, OnReloadFailure, Shed};

/// The value is not valid for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// Limit of an app's processes: a larger number is a mistake (a port, for example) and would overload the machine.
pub const MAX_INSTANCES: u32 = 10_000;

/// Number of processes, before the number of processors is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// One for each processor: `max` or 0.
    Max,
    /// This many, at least 1.
    Count(u32),
    /// One for each processor, less this number: `-1`.
    AllBut(u32),
}

impl Instances {
    /// The number on a machine with `cpus` processors, at least 1.
    #[must_use]
    pub fn on(self, cpus: u32) -> u32 {
        match self {
            Instances::Max => cpus.max(1),
            Instances::Count(count) => count,
            Instances::AllBut(less) => cpus.saturating_sub(less).max(1),
        }
    }
}

/// Assigns a parsed value.
pub(super) fn put<T>(place: &mut T, read: Result<T, Unfit>) -> Result<(), Unfit> {
    *place = read?;
    Ok(())
}

/// Any string that can be passed to a program: without a NUL character.
pub(super) fn text(value: &Value) -> Result<String, Unfit> {
    match value {
        Value::String(text) if !text.contains('\0') => Ok(text.clone()),
        _ => Err(Unfit),
    }
}

/// A string that is not blank.
pub(super) fn word(value: &Value) -> Result<String, Unfit> {
    text(value).and_then(|text| if text.trim().is_empty() { Err(Unfit) } else { Ok(text) })
}

/// A name for lists and messages: one line, not empty, and not `all`.
pub(super) fn name(value: &Value) -> Result<String, Unfit> {
    let name = match value {
        Value::Number(number) => number_text(number),
        _ => word(value)?,
    };
    if name == "all" || name.chars().any(char::is_control) { Err(Unfit) } else { Ok(name) }
}

/// The name of an environment variable.
pub(super) fn variable(value: &Value) -> Result<String, Unfit> {
    word(value).and_then(|name| if name.contains('=') { Err(Unfit) } else { Ok(name) })
}

pub(super) fn boolean(value: &Value) -> Result<bool, Unfit> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(Unfit),
    }
}

fn whole(value: &Value) -> Result<i64, Unfit> {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(whole),
            // 1e3 is a whole number too. Beyond 2^53 a float does not represent every whole number.
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 53_f64.exp2() => Ok(float as i64),
            _ => Err(Unfit),
        },
        Value::String(text) => text.trim().parse().map_err(|_| Unfit),
        _ => Err(Unfit),
    }
}

pub(super) fn count(value: &Value) -> Result<u32, Unfit> {
    whole(value).and_then(|number| u32::try_from(number).map_err(|_| Unfit))
}

/// A count; 0 means no limit.
pub(super) fn count_or_none(value: &Value) -> Result<Option<u32>, Unfit> {
    count(value).map(|count| (count > 0).then_some(count))
}

/// Minimum of `nofile`: with fewer open files no program can start.
const FEWEST_FILES: u32 = 16;

/// Minimum of a memory limit in bytes: with less memory no program can start; a smaller number was probably meant as
/// megabytes.
const LEAST_MEMORY: u64 = 1 << 20;

pub(super) fn memory_limit(value: &Value) -> Result<Option<u64>, Unfit> {
    bytes_or_none(value).and_then(|limit| if limit.is_some_and(|n| n < LEAST_MEMORY) { Err(Unfit) } else { Ok(limit) })
}

pub(super) fn nofile(value: &Value) -> Result<Option<u32>, Unfit> {
    count_or_none(value).and_then(|limit| if limit.is_some_and(|n| n < FEWEST_FILES) { Err(Unfit) } else { Ok(limit) })
}

/// Processor time in thousandths of one processor; 0 means no limit.
pub(super) fn cpu(value: &Value) -> Result<Option<u32>, Unfit> {
    let (number, unit) = match value {
        Value::Number(number) => (number.as_f64().ok_or(Unfit)?, 1000.0),
        Value::String(text) => match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end().parse().map_err(|_| Unfit)?, 10.0),
            None => (text.trim().parse().map_err(|_| Unfit)?, 1000.0),
        },
        _ => return Err(Unfit),
    };
    let thousandths = (number * unit).round();
    // No machine has more processors than this, and the kernel accepts no limit below a hundredth of one.
    let fits = number == 0.0 || (10.0..=10_000_000.0).contains(&thousandths);
    if fits { Ok((number > 0.0).then_some(thousandths as u32)) } else { Err(Unfit) }
}

/// Parses the object `limits`.
pub(super) fn limits(confinement: &mut Confinement, value: &Value) -> Result<(), Unfit> {
    let Value::Object(object) = value else { return Err(Unfit) };
    for (name, value) in object {
        match name.as_str() {
            _ if value.is_null() => {}
            "memory" => put(&mut confinement.memory, memory_limit(value))?,
            "cpu" => put(&mut confinement.cpu, cpu(value))?,
            "pids" => put(&mut confinement.pids, count_or_none(value))?,
            "nofile" => put(&mut confinement.nofile, nofile(value))?,
            _ => return Err(Unfit),
        }
    }
    Ok(())
}

/// A user or a group.
pub(super) fn name_or_number(value: &Value) -> Result<String, Unfit> {
    match value {
        Value::Number(_) => count(value).map(|number| number.to_string()),
        _ => word(value),
    }
}

pub(super) fn paths(value: &Value) -> Result<Vec<PathBuf>, Unfit> {
    list(value).map(|paths| paths.into_iter().map(PathBuf::from).collect())
}

pub(super) fn duration(value: &Value) -> Result<Duration, Unfit> {
    match value {
        Value::String(text) => parse_duration(text).ok_or(Unfit),
        _ => parse_duration(&whole(value)?.to_string()).ok_or(Unfit),
    }
}

/// A duration; 0 means not set.
pub(super) fn duration_or_none(value: &Value) -> Result<Option<Duration>, Unfit> {
    duration(value).map(|duration| (!duration.is_zero()).then_some(duration))
}

/// A size; 0 means no limit.
pub(super) fn bytes_or_none(value: &Value) -> Result<Option<u64>, Unfit> {
    let bytes = match value {
        Value::String(text) => parse_bytes(text).ok_or(Unfit)?,
        _ => u64::try_from(whole(value)?).map_err(|_| Unfit)?,
    };
    Ok((bytes > 0).then_some(bytes))
}

pub(super) fn instances(value: &Value) -> Result<Instances, Unfit> {
    if value.as_str() == Some("max") {
        return Ok(Instances::Max);
    }
    let number = whole(value)?;
    let size = u32::try_from(number.unsigned_abs()).ok().filter(|size| *size <= MAX_INSTANCES).ok_or(Unfit)?;
    Ok(match number {
        0 => Instances::Max,
        1.. => Instances::Count(size),
        _ => Instances::AllBut(size),
    })
}

pub(super) fn exec_mode(value: &Value) -> Result<ExecMode, Unfit> {
    match value.as_str() {
        Some("fork" | "fork_mode") => Ok(ExecMode::Fork),
        Some("cluster" | "cluster_mode") => Ok(ExecMode::Cluster),
        _ => Err(Unfit),
    }
}

pub(super) fn on_reload_failure(value: &Value) -> Result<OnReloadFailure, Unfit> {
    match text(value)?.as_str() {
        "rollback" => Ok(OnReloadFailure::Rollback),
        "pause" => Ok(OnReloadFailure::Pause),
        "continue" => Ok(OnReloadFailure::Continue),
        _ => Err(Unfit),
    }
}

pub(super) fn balance(value: &Value) -> Result<Balance, Unfit> {
    match value.as_str() {
        Some("round_robin") => Ok(Balance::RoundRobin),
        Some("sticky") => Ok(Balance::Sticky),
        Some("least") => Ok(Balance::Least),
        Some("shared") => Ok(Balance::Shared),
        _ => Err(Unfit),
    }
}

pub(super) fn shed(value: &Value) -> Result<Shed, Unfit> {
    match (value.as_str(), value.as_u64()) {
        (Some("503"), _) | (None, Some(503)) => Ok(Shed::Answer),
        (Some("close"), _) => Ok(Shed::Close),
        _ => Err(Unfit),
    }
}

pub(super) fn ports(value: &Value) -> Result<Vec<u16>, Unfit> {
    several(value, |value| {
        let port = whole(value).and_then(|number| u16::try_from(number).map_err(|_| Unfit))?;
        if port == 0 { Err(Unfit) } else { Ok(port) }
    })
}

/// A list, or a string that is split into words.
pub(super) fn words(value: &Value) -> Result<Vec<String>, Unfit> {
    match value {
        Value::String(line) if !line.contains('\0') => split_words(line).ok_or(Unfit),
        Value::Array(items) => items.iter().map(scalar).collect(),
        _ => Err(Unfit),
    }
}

/// A list, or a string that is its only item.
pub(super) fn list(value: &Value) -> Result<Vec<String>, Unfit> {
    match value {
        Value::Array(items) => items.iter().map(word).collect(),
        _ => Ok(vec![word(value)?]),
    }
}

/// One endpoint or a list: an address, `NAME=ADDRESS`, or an object of `url`, `name` and `mode`.
pub(super) fn endpoints(value: &Value) -> Result<Vec<Endpoint>, Unfit> {
    let one = |value: &Value| match value {
        Value::Object(_) => serde_json::from_value(value.clone()).map_err(|_| Unfit),
        _ => word(value)?.parse().map_err(|_| Unfit),
    };
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(value)?]),
    }
}

pub(super) fn exit_codes(value: &Value) -> Result<Vec<i32>, Unfit> {
    several(value, exit_code)
}

/// One value, a list, or a string with commas in between.
fn several<T>(value: &Value, one: fn(&Value) -> Result<T, Unfit>) -> Result<Vec<T>, Unfit> {
    match value {
        Value::Array(items) => items.iter().map(one).collect(),
        Value::String(text) => text.split(',').map(|text| one(&Value::String(text.to_owned()))).collect(),
        _ => Ok(vec![one(value)?]),
    }
}

fn exit_code(value: &Value) -> Result<i32, Unfit> {
    let code = whole(value)?;
    u8::try_from(code).map(i32::from).map_err(|_| Unfit)
}

pub(super) fn log_target(value: &Value) -> Result<LogTarget, Unfit> {
    let path = word(value)?;
    Ok(if path == "/dev/null" || path == "NULL" { LogTarget::Discard } else { LogTarget::File(path.into()) })
}

/// Environment variables. Lists and objects become JSON text, and null the text `null`, as in PM2.
pub(super) fn variables(value: &Value) -> Result<Env, Unfit> {
    let Value::Object(object) = value else { return Err(Unfit) };
    let one = |(name, value): (&String, &Value)| {
        let text = scalar(value).or_else(|_| match value {
            Value::Null | Value::Array(_) | Value::Object(_) => Ok(value.to_string()),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(Unfit),
        })?;
        Ok((variable(&Value::String(name.clone()))?, text))
    };
    object.iter().map(one).collect()
}

fn scalar(value: &Value) -> Result<String, Unfit> {
    match value {
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number_text(number)),
        _ => text(value),
    }
}

/// The number as JavaScript prints it: `7`, not `7.0`.
fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
        _ => number.to_string(),
    }
}

/// Describes a value for an error.
pub fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.is_empty() => "an empty string".to_owned(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{:?}", text.chars().take(57).chain("...".chars()).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => format!("the list {}", brief(value)),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text }
}
