//! Time formats of PM2 (`YYYY-MM-DD HH:mm:ss`, the tokens of Day.js). PURE.

use std::fmt::Write;

use jiff::Zoned;

/// The format of `--timestamp` without a value.
pub const DEFAULT: &str = "YYYY-MM-DD-HH:mm:ss";

/// Tokens and their equivalents in strftime. The first token that fits is taken, so a longer token stands before its
/// prefixes.
const TOKENS: &[(&str, Part)] = &[
    ("YYYY", Part::Field("%Y")),
    ("YY", Part::Field("%y")),
    ("MMMM", Part::Field("%B")),
    ("MMM", Part::Field("%b")),
    ("MM", Part::Field("%m")),
    ("M", Part::Field("%-m")),
    ("DD", Part::Field("%d")),
    ("D", Part::Field("%-d")),
    ("dddd", Part::Field("%A")),
    ("ddd", Part::Field("%a")),
    ("dd", Part::ShortWeekday),
    ("d", Part::Field("%w")),
    ("HH", Part::Field("%H")),
    ("H", Part::Field("%-H")),
    ("hh", Part::Field("%I")),
    ("h", Part::Field("%-I")),
    ("mm", Part::Field("%M")),
    ("m", Part::Field("%-M")),
    ("SSS", Part::Field("%3f")),
    ("ss", Part::Field("%S")),
    ("s", Part::Field("%-S")),
    ("ZZ", Part::Field("%z")),
    ("Z", Part::Field("%:z")),
    ("A", Part::Field("%p")),
    ("a", Part::Field("%P")),
    ("X", Part::Seconds),
    ("x", Part::Millis),
];

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// For strftime.
    Field(&'static str),
    /// The first two letters of the day.
    ShortWeekday,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
}

impl TimeFormat {
    /// Parses a format. Text that is no token, and text in `[brackets]`, stands for itself, so every format is valid.
    #[must_use]
    pub fn parse(format: &str) -> TimeFormat {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = format;
        while let Some(first) = rest.chars().next() {
            if let Some((text, after)) = bracketed(rest) {
                literal.push_str(text);
                rest = after;
            } else if let Some((token, part)) = TOKENS.iter().find(|(token, _)| rest.starts_with(token)) {
                flush_literal(&mut literal, &mut parts);
                parts.push(part.clone());
                rest = &rest[token.len()..];
            } else {
                literal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        flush_literal(&mut literal, &mut parts);
        TimeFormat { parts }
    }

    /// Formats `at`.
    #[must_use]
    pub fn render(&self, at: &Zoned) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Field(field) => write(&mut text, at.strftime(field)),
                Part::ShortWeekday => text.push_str(&at.strftime("%a").to_string()[..2]),
                Part::Seconds => write(&mut text, at.timestamp().as_second()),
                Part::Millis => write(&mut text, at.timestamp().as_millisecond()),
            }
        }
        text
    }
}

fn write(text: &mut String, value: impl std::fmt::Display) {
    write!(text, "{value}").expect("a string takes everything, and every field exists for a full date");
}

fn bracketed(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('[')?;
    let (literal, rest) = inside.split_once(']')?;
    (!literal.is_empty()).then_some((literal, rest))
}

fn flush_literal(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: &str) -> String {
        let at = jiff::civil::datetime(2026, 3, 5, 15, 4, 9, 7_000_000).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
        TimeFormat::parse(format).render(&at)
    }

    #[test]
    fn formats_of_pm2_are_rendered() {
        assert_eq!(shown(DEFAULT), "2026-03-05-15:04:09");
        assert_eq!(shown("YYYY-MM-DDTHH:mm:ss.SSSZ"), "2026-03-05T15:04:09.007+00:00");
        assert_eq!(shown("YYYY-MM-DD HH:mm:ss ZZ"), "2026-03-05 15:04:09 +0000");
        assert_eq!(shown("D/M/YY h:m:s A"), "5/3/26 3:4:9 PM");
        assert_eq!(shown("hh a, dddd ddd dd d"), "03 pm, Thursday Thu Th 4");
        assert_eq!(shown("MMMM MMM H"), "March Mar 15");
        assert_eq!(shown("X x"), "1772723049 1772723049007");
    }

    #[test]
    fn text_that_is_no_token_stands_for_itself() {
        assert_eq!(shown("[Day] D [] é %Y"), "Day 5 [] é %Y");
        assert_eq!(shown("[open D"), "[open 5");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn every_token_renders() {
        for (token, _) in TOKENS {
            assert!(!shown(token).is_empty(), "{token}");
        }
    }
}
