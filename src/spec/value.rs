//! Parses values such as `300M`, `5s`, `--flag "a b"`, and serializes durations as milliseconds, as in PM2.

use std::time::Duration;

/// Limit of times in settings. A longer time is a mistake, and could overflow a clock.
pub const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Parses a time: a bare number is milliseconds, otherwise `500ms`, `10s`, `1h 30m`. At most [`LONGEST`].
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let duration = match text.parse::<u64>() {
        Ok(millis) => Duration::from_millis(millis),
        Err(_) => humantime::parse_duration(text).ok()?,
    };
    (duration <= LONGEST).then_some(duration)
}

/// Parses a size in bytes: `300M`, `1.5G`, `512kb`, `1048576`. Units are powers of 1024, in either case.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1 << shift),
        Err(_) if number.contains('.') => scaled(number.parse().ok()?, shift),
        Err(_) => None,
    }
}

/// `number × 2^shift`, cut to a whole number of bytes.
fn scaled(number: f64, shift: u32) -> Option<u64> {
    let bytes = number * f64::from(shift).exp2();
    // Below 2^63 the cast is exact; no machine has more memory.
    (bytes < 63_f64.exp2()).then_some(bytes as u64)
}

/// A time in words: `30s`, `1m 30s`, `500ms`.
#[must_use]
pub fn in_words(millis: u64) -> String {
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}

/// A size in words: `300 MB`, `1.5 MB`.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    const MEGABYTE: u64 = 1 << 20;
    if bytes.is_multiple_of(MEGABYTE) {
        return format!("{} MB", bytes / MEGABYTE);
    }
    format!("{:.1} MB", bytes as f64 / MEGABYTE as f64)
}

/// Splits a string into words like a shell: at spaces, except in quotes of both kinds, also inside a word (`k="v w"`).
/// A backslash is literal unless it stands before a quote, a space or a backslash, so that patterns such as `\d+` are
/// kept. `None` if a quote is not closed.
#[must_use]
pub fn split_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => {
                let escaped = rest.next_if(|next| matches!(next, '"' | '\'' | '\\' | ' '));
                word.get_or_insert_default().push(escaped.unwrap_or(c));
            }
            (_, None) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// A [`Duration`] as a number of milliseconds, for `#[serde(with = …)]`.
pub mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes whole milliseconds, at most `u64::MAX`.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads whole milliseconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The same for an optional [`Duration`].
pub mod millis_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes whole milliseconds or null.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    /// Reads whole milliseconds or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests;
