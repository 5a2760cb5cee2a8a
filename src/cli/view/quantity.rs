//! Time, memory and counts in short forms, those of time and memory as PM2 writes them.

use std::time::Duration;

const UNITS: [(u64, char); 6] = [(60, 's'), (60, 'm'), (24, 'h'), (30, 'D'), (12, 'M'), (u64::MAX, 'Y')];

/// One unit, rounded down; a larger unit is used from 2 of it on, so up to `119s`.
#[must_use]
pub fn uptime(span: Duration) -> String {
    let mut value = span.as_secs();
    for (next, unit) in UNITS {
        if value / next < 2 {
            return format!("{value}{unit}");
        }
        value /= next;
    }
    format!("{value}Y")
}

/// Base 1024, one decimal: `12.3mb`.
#[must_use]
pub fn memory(bytes: u64) -> String {
    const KB: u64 = 1 << 10;
    const MB: u64 = 1 << 20;
    const GB: u64 = 1 << 30;
    const TB: u64 = 1 << 40;
    let (unit, word) = match bytes {
        TB.. => (TB, "tb"),
        GB.. => (GB, "gb"),
        MB.. => (MB, "mb"),
        KB.. => (KB, "kb"),
        _ => return format!("{bytes}b"),
    };
    // Tenths in whole numbers, so that no float decides how a number is rounded.
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    format!("{}.{}{word}", tenths / 10, tenths % 10)
}

/// A duration from a setting: `1600 ms`, `3 s`.
#[must_use]
pub fn span(span: Duration) -> String {
    match u64::try_from(span.as_millis()).unwrap_or(u64::MAX) {
        0 => "0 ms".to_owned(),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// `1 app`, `2 apps`, `2 processes`.
#[must_use]
pub fn plural(count: u32, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ if word.ends_with('s') => format!("{count} {word}es"),
        _ => format!("{count} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_has_one_unit() {
        let of = |seconds| uptime(Duration::from_secs(seconds));
        assert_eq!(
            [of(0), of(119), of(120), of(7199), of(7200), of(172_800), of(5_184_000), of(62_208_000)],
            ["0s", "119s", "2m", "119m", "2h", "2D", "2M", "2Y"]
        );
    }

    #[test]
    fn memory_has_one_decimal() {
        let all = [0, 1023, 1024, 1536, 44_564_480, 1 << 30, 5 << 40].map(memory);
        assert_eq!(all, ["0b", "1023b", "1.0kb", "1.5kb", "42.5mb", "1.0gb", "5.0tb"]);
    }

    #[test]
    fn whole_seconds_are_written_in_seconds() {
        assert_eq!(["0 ms", "1600 ms", "3 s"], [0, 1600, 3000].map(|ms| span(Duration::from_millis(ms))));
    }
}
