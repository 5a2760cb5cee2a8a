//! The output of `pmr logs`.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::thread::JoinHandle;

use clap::Parser;

use super::*;
use crate::logs::format::{Format, LineSource};
use crate::logs::split::Piece;
use crate::logs::time_format;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Args {
    Line::try_parse_from(std::iter::once("logs").chain(line.split_whitespace())).unwrap().args
}

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { folder: tempfile::tempdir().unwrap() }
    }

    fn source(&self, id: u32, name: &str, stream: Stream, file: &str) -> ProcessLog {
        let process_id = (stream != Stream::Daemon).then_some(id);
        ProcessLog { process_id, name: name.into(), stream, path: self.folder.path().join(file) }
    }

    fn append(&self, file: &str, text: &[u8]) {
        let path = self.folder.path().join(file);
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text).unwrap();
    }

    /// Standard output and standard error.
    fn streams(&self, line: &str, sources: &[ProcessLog]) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = args(&format!("{line} --nostream"));
        Display::open(&args, sources.to_vec(), screen(&mut out, &mut err)).unwrap();
        let folder = format!("{}/", self.folder.path().display());
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(&folder, "");
        (text(out), text(err))
    }

    fn shown(&self, line: &str, sources: &[ProcessLog]) -> String {
        let (out, err) = self.streams(line, sources);
        assert_eq!(err, "");
        out
    }
}

fn screen<'a>(out: impl Write + 'a, err: impl Write + 'a) -> Screen<'a> {
    Screen { out: Box::new(out), err: Box::new(err), fd: None, colour: false }
}

#[test]
fn history_has_headings_labels_and_the_last_lines() {
    let fixture = Fixture::new();
    fixture.append("pmr.log", b"started\n");
    fixture.append("out", b"1\n2\nunfinished \xff");
    let sources = [
        fixture.source(12, "a-long-name", Stream::Out, "out"),
        fixture.source(0, "PMR", Stream::Daemon, "pmr.log"),
        fixture.source(12, "a-long-name", Stream::Err, "missing"),
    ];
    let all = fixture.shown("--lines 2", &sources);
    assert_eq!(
        all,
        "pmr.log last 2 lines:\nPMR            | started\n\n\
         out last 2 lines:\n12|a-long-name | 2\n12|a-long-name | unfinished \u{fffd}\n\n"
    );
    assert_eq!(fixture.shown("--raw --lines 1 --out", &sources), "unfinished \u{fffd}\n");
    assert_eq!(fixture.shown("--raw --err", &sources), "");
    assert_eq!(fixture.shown("--lines 0", &sources), "");
    let json = fixture.shown("--json --lines 1 --out", &sources);
    assert!(
        json.starts_with("{\"message\":\"unfinished \u{fffd}\",\"timestamp\":null,\"type\":\"out\",\"process_id\":12,")
    );
}

#[test]
fn raw_lines_go_where_the_app_wrote_them() {
    let fixture = Fixture::new();
    fixture.append("out", b"fine\nunfinished");
    fixture.append("err", b"bad\n");
    let sources = [fixture.source(1, "api", Stream::Out, "out"), fixture.source(1, "api", Stream::Err, "err")];
    assert_eq!(fixture.streams("--raw", &sources), ("fine\nunfinished\n".into(), "bad\n".into()));
    assert!(fixture.shown("", &sources).contains("1|api      | bad\n"), "labelled lines stay together");
}

#[test]
fn a_file_that_several_processes_share_is_shown_once() {
    let fixture = Fixture::new();
    fixture.append("x", b"hi\n");
    let sources = [fixture.source(1, "api", Stream::Out, "x"), fixture.source(1, "api", Stream::Err, "x")];
    assert_eq!(fixture.shown("", &sources), "x last 15 lines:\n1|api      | hi\n\n");
    let sources = [fixture.source(1, "api", Stream::Out, "x"), fixture.source(2, "api", Stream::Out, "x")];
    assert_eq!(fixture.shown("", &sources), "x last 15 lines:\napi        | hi\n\n");
}

/// Follows in a thread until the reader leaves.
fn following(line: &'static str, sources: Vec<ProcessLog>) -> (impl Iterator<Item = String>, JoinHandle<()>) {
    let (reader, writer) = io::pipe().unwrap();
    let thread = std::thread::spawn(move || {
        let fd = Some(writer.try_clone().unwrap().into());
        let args = args(line);
        let mut view = Display::open(&args, sources, Screen { fd, ..screen(writer, io::sink()) }).unwrap();
        while view.show_new(None).unwrap() != WakeReason::HungUp {}
    });
    (BufReader::new(reader).lines().map(Result::unwrap), thread)
}

#[test]
fn the_display_follows_files_until_its_reader_hangs_up() {
    let fixture = Fixture::new();
    fixture.append("a", b"old\n");
    let sources = vec![fixture.source(0, "a", Stream::Out, "a"), fixture.source(1, "b", Stream::Out, "b")];
    let (mut lines, thread) = following("--timestamp [t]", sources);
    // The display follows now: all lines from here on must be shown.
    assert!(lines.by_ref().any(|line| line == "0|a        | old"));
    fixture.append("a", b"x");
    fixture.append("a", b"x\n");
    // The second line comes from a file that did not exist.
    let first = lines.by_ref().find(|line| line.contains("| t: x")).unwrap();
    assert!(first.ends_with("| t: xx") || first.ends_with("| t: x"), "{first}");
    fs::write(fixture.folder.path().join("b"), "y\n").unwrap();
    assert!(lines.by_ref().any(|line| line == "1|b        | t: y"));
    drop(lines);
    thread.join().unwrap();
}

#[test]
fn new_processes_are_shown_from_the_recorded_ends_and_known_files_get_new_ids() {
    let fixture = Fixture::new();
    fixture.append("b", b"an older line\n");
    let mut out = Vec::new();
    let args = args("--out");
    let source = |id, name: &str, file| fixture.source(id, name, Stream::Out, file);
    let ends = Ends::of(fixture.folder.path()).unwrap();
    let mut view = Display::open(&args, vec![source(3, "a", "a")], screen(&mut out, io::sink())).unwrap();
    fixture.append("b", b"first\n");
    let new_logs = vec![source(0, "a", "a"), source(12, "a-long-name", "b"), source(12, "x", "b")];
    view.add_files(new_logs, &ends).unwrap();
    view.add_files(vec![fixture.source(5, "unwanted", Stream::Err, "c")], &ends).unwrap();
    fixture.append("c", b"unwanted\n");
    let (reader, writer) = io::pipe().unwrap();
    // Without a reader, each call returns at once.
    drop(reader);
    view.output = Some(writer.into());
    assert_eq!(view.show_new(None).unwrap(), WakeReason::HungUp);
    fixture.append("a", b"again\n");
    assert_eq!(view.show_new(None).unwrap(), WakeReason::HungUp);
    drop(view);
    assert_eq!(String::from_utf8(out).unwrap(), "12|a-long-name | first\n0|a            | again\n");
}

#[test]
fn a_closed_reader_is_a_broken_pipe() {
    let fixture = Fixture::new();
    fixture.append("a", &b"line\n".repeat(100_000));
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let args = args("--lines 100000");
    let opened = Display::open(&args, vec![fixture.source(0, "a", Stream::Out, "a")], screen(writer, io::sink()));
    // The caller gets the error and prints nothing.
    assert_eq!(opened.err().map(|error| error.kind()), Some(io::ErrorKind::BrokenPipe));
}

#[test]
fn lines_of_other_files_do_not_run_into_an_unfinished_line() {
    let mut out = Vec::new();
    let tail = |id, name: &str| Tail {
        path: PathBuf::new(),
        source: LineSource { process_id: Some(id), name: name.into(), stream: Stream::Out },
    };
    let format = Format { layout: Layout::Labelled { width: 3 }, colour: false, timestamp: None, highlight: None };
    let mut printer = Printer::new(format, screen(&mut out, io::sink()));
    printer.tails = vec![tail(0, "a"), tail(1, "b")];
    let mut print = |number, text: &str, starts, ends| {
        printer.piece(number, Piece { text: text.as_bytes(), starts, ends }, None).unwrap();
    };
    print(0, "name? ", true, false);
    print(0, "joe", false, true);
    print(0, "pass", true, false);
    print(1, "hello", true, true);
    print(0, "word", false, true);
    print(0, "more", true, false);
    print(1, "hello", true, true);
    print(0, "", false, true);
    print(1, "end", true, true);
    printer.flush().unwrap();
    drop(printer);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "0|a | name? joe\n0|a | pass\n1|b | hello\n0|a | word\n0|a | more\n1|b | hello\n1|b | end\n"
    );
}

#[test]
fn arguments_are_parsed_with_their_defaults() {
    assert_eq!(args("api --timestamp --lines 3").timestamp.as_deref(), Some(time_format::DEFAULT));
    assert_eq!(args("--timestamp HH:mm api db").selectors, ["api", "db"]);
    assert!(Line::try_parse_from(["logs", "--err", "--out"]).is_err());
    assert_eq!((args("--json").history(), args("--json --nostream").history()), (0, 15));
}
