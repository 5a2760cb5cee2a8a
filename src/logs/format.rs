//! The formats in which log lines are shown to people and programs. PURE.

use std::borrow::Cow;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use jiff::Zoned;
use serde::Serialize;

use super::split::Piece;
use super::time_format::TimeFormat;

/// Turns inverse video on and off. The colours of the text itself stay.
const INVERSE: (&[u8], &[u8]) = (b"\x1b[7m", b"\x1b[27m");
const RESET: &[u8] = b"\x1b[0m";
const ESCAPE: u8 = 0x1b;

/// The stream from which a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output of an app.
    Out,
    /// Standard error of an app.
    Err,
    /// The daemon's own log.
    Daemon,
}

impl Stream {
    /// The value of `type` in JSON.
    #[must_use]
    pub fn json_type(self) -> &'static str {
        match self {
            Stream::Out => "out",
            Stream::Err => "err",
            Stream::Daemon => "PMR",
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Stream::Out => AnsiColor::Green,
            Stream::Err => AnsiColor::Red,
            Stream::Daemon => AnsiColor::Blue,
        };
        Style::new().fg_color(Some(colour.into()))
    }
}

/// The source of a log file's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSource {
    /// Id of the process. `None` if several processes write to this file, and for the daemon's log.
    pub process_id: Option<u32>,
    /// Name of the app.
    pub name: String,
    /// The stream that is in the file.
    pub stream: Stream,
}

impl LineSource {
    /// `3|api`, or the name alone.
    #[must_use]
    pub fn label(&self) -> String {
        match self.process_id {
            Some(id) => format!("{id}|{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// How lines are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `3|api | text`
    Labelled {
        /// Characters the label is padded to; longer ones are not cut.
        width: usize,
    },
    /// The bytes as they are.
    Raw,
    /// One JSON object for each line.
    Json,
}

/// Layout, colour, timestamps and highlight of the lines that are shown.
#[derive(Clone, Debug)]
pub struct Format {
    /// How lines are laid out.
    pub layout: Layout,
    /// Whether escape codes may be added. Those in the text itself stay in either case.
    pub colour: bool,
    /// Format of the timestamp before each line whose time is known; in JSON it replaces the ISO timestamp.
    pub timestamp: Option<TimeFormat>,
    /// Text that is shown in inverse video wherever it occurs. Needs `colour`.
    pub highlight: Option<String>,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    message: Cow<'a, str>,
    timestamp: Option<String>,
    r#type: &'static str,
    process_id: Option<u32>,
    app_name: &'a str,
}

impl Format {
    /// Appends a line or a part of one to `out`. `at` is the time at which it was written; `None` for lines that were
    /// in the file before `pmr logs` opened it.
    pub fn piece(&self, out: &mut Vec<u8>, source: &LineSource, piece: Piece<'_>, at: Option<&Zoned>) {
        if self.layout == Layout::Json {
            return self.json(out, source, piece.text, at);
        }
        if piece.starts {
            self.begin(out, source, at);
        }
        self.text(out, piece.text);
        if piece.ends {
            out.push(b'\n');
        }
    }

    /// Appends label and timestamp: once for a line, and again where an interrupted line continues.
    pub fn begin(&self, out: &mut Vec<u8>, source: &LineSource, at: Option<&Zoned>) {
        if let Layout::Labelled { width } = self.layout {
            let label = source.label();
            if self.colour {
                let style = source.stream.style();
                append(out, format_args!("{style}{label:<width$} |{style:#} "));
            } else {
                append(out, format_args!("{label:<width$} | "));
            }
        }
        if let (Some(format), Some(at)) = (&self.timestamp, at) {
            append(out, format_args!("{}: ", format.render(at)));
        }
    }

    fn text(&self, out: &mut Vec<u8>, text: &[u8]) {
        if !self.colour {
            out.extend_from_slice(text);
            return;
        }
        match self.highlight.as_deref() {
            Some(pattern) if !pattern.is_empty() => highlight(out, text, pattern.as_bytes()),
            _ => out.extend_from_slice(text),
        }
        // A colour that the app left on must not extend to the next label.
        if self.layout != Layout::Raw && memchr::memchr(ESCAPE, text).is_some() {
            out.extend_from_slice(RESET);
        }
    }

    fn json(&self, out: &mut Vec<u8>, source: &LineSource, text: &[u8], at: Option<&Zoned>) {
        let line = JsonLine {
            message: String::from_utf8_lossy(text),
            timestamp: at.map(|at| match &self.timestamp {
                Some(format) => format.render(at),
                None => at.timestamp().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            }),
            r#type: source.stream.json_type(),
            process_id: source.process_id,
            app_name: &source.name,
        };
        serde_json::to_writer(&mut *out, &line).expect("strings and numbers always serialize");
        out.push(b'\n');
    }
}

/// Copies `text` with every occurrence of `pattern` in inverse video. Escape sequences are copied as they are and never
/// searched, so `31` does not tear up a colour.
fn highlight(out: &mut Vec<u8>, text: &[u8], pattern: &[u8]) {
    let mut rest = text;
    while !rest.is_empty() {
        let plain = memchr::memchr(ESCAPE, rest).unwrap_or(rest.len());
        highlight_plain(out, &rest[..plain], pattern);
        rest = &rest[plain..];
        let escape = escape_length(rest);
        out.extend_from_slice(&rest[..escape]);
        rest = &rest[escape..];
    }
}

fn highlight_plain(out: &mut Vec<u8>, text: &[u8], pattern: &[u8]) {
    let mut copied = 0;
    for start in memchr::memmem::find_iter(text, pattern) {
        out.extend_from_slice(&text[copied..start]);
        out.extend_from_slice(INVERSE.0);
        out.extend_from_slice(pattern);
        out.extend_from_slice(INVERSE.1);
        copied = start + pattern.len();
    }
    out.extend_from_slice(&text[copied..]);
}

/// Length in bytes of the escape sequence at the start of `text`, 0 if there is none. A sequence without an end extends
/// to the end of the text.
fn escape_length(text: &[u8]) -> usize {
    let after = |end: Option<usize>| end.map_or(text.len(), |end| end + 1);
    match text {
        [ESCAPE, b'[', parameters @ ..] => {
            after(parameters.iter().position(|byte| matches!(byte, 0x40..=0x7e)).map(|end| end + 2))
        }
        [ESCAPE, b']', ..] => {
            let bell = text.iter().position(|byte| *byte == 0x07);
            let terminator = text.windows(2).position(|pair| pair == b"\x1b\\").map(|start| start + 1);
            after(bell.into_iter().chain(terminator).min())
        }
        [ESCAPE, _, ..] => 2,
        [ESCAPE] => 1,
        _ => 0,
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Format =
        Format { layout: Layout::Labelled { width: 8 }, colour: false, timestamp: None, highlight: None };

    fn api() -> LineSource {
        LineSource { process_id: Some(3), name: "api".into(), stream: Stream::Err }
    }

    fn now() -> Zoned {
        jiff::civil::datetime(2026, 3, 5, 15, 4, 9, 7_000_000).to_zoned(jiff::tz::TimeZone::UTC).unwrap()
    }

    fn shown(format: &Format, text: &[u8], at: Option<&Zoned>) -> String {
        let mut out = Vec::new();
        format.piece(&mut out, &api(), Piece { text, starts: true, ends: true }, at);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn labels_are_padded_and_never_cut() {
        assert_eq!(shown(&PLAIN, b"hi", None), "3|api    | hi\n");
        let narrow = Format { layout: Layout::Labelled { width: 2 }, ..PLAIN };
        assert_eq!(shown(&narrow, b"", None), "3|api | \n");
        let daemon = LineSource { process_id: None, name: "PMR".into(), stream: Stream::Daemon };
        assert_eq!(daemon.label(), "PMR");
    }

    #[test]
    fn raw_layout_shows_the_bytes_unchanged() {
        let raw = Format { layout: Layout::Raw, colour: true, ..PLAIN };
        let mut out = Vec::new();
        raw.piece(&mut out, &api(), Piece { text: b"\x1b[31m\xff", starts: true, ends: false }, None);
        assert_eq!(out, b"\x1b[31m\xff");
    }

    #[test]
    fn the_label_alone_is_coloured_and_the_apps_colours_end_with_the_line() {
        let colour = Format { colour: true, ..PLAIN };
        assert_eq!(shown(&colour, b"hi", None), "\x1b[31m3|api    |\x1b[0m hi\n");
        assert_eq!(shown(&colour, b"\x1b[1mhi", None), "\x1b[31m3|api    |\x1b[0m \x1b[1mhi\x1b[0m\n");
    }

    #[test]
    fn a_timestamp_stands_before_lines_whose_time_is_known() {
        let timed = Format { timestamp: Some(TimeFormat::parse("HH:mm:ss")), ..PLAIN };
        assert_eq!(shown(&timed, b"hi", Some(&now())), "3|api    | 15:04:09: hi\n");
        assert_eq!(shown(&timed, b"hi", None), "3|api    | hi\n");
    }

    #[test]
    fn the_json_layout_writes_one_object_a_line() {
        let json = Format { layout: Layout::Json, colour: true, timestamp: None, highlight: Some("a".into()) };
        assert_eq!(
            shown(&json, b"a \"q\" \xff", Some(&now())),
            "{\"message\":\"a \\\"q\\\" \u{fffd}\",\"timestamp\":\"2026-03-05T15:04:09.007Z\",\"type\":\"err\",\
             \"process_id\":3,\"app_name\":\"api\"}\n"
        );
        assert!(shown(&json, b"x", None).contains("\"timestamp\":null"));
    }

    #[test]
    fn every_occurrence_is_highlighted_and_escape_sequences_stay_whole() {
        let marked = |text: &[u8], pattern: &str| {
            let mut out = Vec::new();
            highlight(&mut out, text, pattern.as_bytes());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(marked(b"an error, error", "error"), "an \x1b[7merror\x1b[27m, \x1b[7merror\x1b[27m");
        assert_eq!(marked(b"\x1b[31m31\x1b[0m", "31"), "\x1b[31m\x1b[7m31\x1b[27m\x1b[0m");
        assert_eq!(
            marked(b"\x1b]8;;http://m\x07m\x1b]0;m\x1b\\m", "m"),
            "\x1b]8;;http://m\x07\x1b[7mm\x1b[27m\x1b]0;m\x1b\\\x1b[7mm\x1b[27m"
        );
        assert_eq!(marked(b"m\x1b[3", "3"), "m\x1b[3");
        assert_eq!(marked(b"\x1b", "3"), "\x1b");
        assert_eq!(marked("\x1b7é".as_bytes(), "é"), "\x1b7\x1b[7mé\x1b[27m");
    }
}
