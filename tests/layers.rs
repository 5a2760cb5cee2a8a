//! The house rules as a test: who may import whom, what pure code must not name, where `unsafe` and output live, how
//! files open and how long they get. Reads the sources as text; each rule is also shown a sample that breaks it.

mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use source::Source;

/// Each top-level module and what it may import. `main.rs` and `lib.rs` may import everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("os", &[]),
    ("paths", &[]),
    ("guide", &["spec"]),
    ("protocol", &["spec"]),
    ("supervisor", &["spec", "protocol"]),
    ("settings", &["os", "paths", "spec"]),
    ("logs", &["os", "spec", "protocol", "paths"]),
    ("keeper", &["os"]),
    ("cluster", &["os", "keeper", "spec", "protocol"]),
    ("worker", &["os", "protocol"]),
    ("startup", &["os", "spec", "paths"]),
    ("doctor", &["os", "startup"]),
    ("demo", &["protocol", "spec", "paths", "os", "cli", "worker"]),
    ("cli", &["protocol", "spec", "guide", "os", "paths", "logs", "settings", "startup", "demo", "doctor"]),
    ("daemon", &["spec", "protocol", "supervisor", "os", "keeper", "cluster", "logs", "paths", "settings"]),
];

/// Folders that decide and do nothing. Single files elsewhere join them by the word PURE in their `//!` lines.
const PURE: &[&str] = &["spec", "guide", "protocol", "supervisor"];

/// What does something, or gives another answer each time.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::process",
    "nix::",
    "rustix::",
    "Instant::now",
    "SystemTime::now",
    "Zoned::now",
    "Timestamp::now",
];

const PRINTERS: &[&str] = &["println!", "print!", "eprintln!", "eprint!"];
/// The only file that prints.
const SCREEN: &str = "src/cli/ui.rs";
/// File names that say nothing.
const EMPTY_NAMES: &[&str] = &["manager", "helper", "helpers", "util", "utils", "common", "misc"];
const MAX_LINES: usize = 400;

/// A broken rule: `file:line: what`.
struct Breach {
    file: PathBuf,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

type Rule = fn(&Source, &mut Vec<Breach>);

const RULES: &[Rule] = &[imports, purity, unsafe_code, printing, exiting, opening_words, length, file_name];

fn breach(source: &Source, line: usize, rule: impl Into<String>) -> Breach {
    Breach { file: source.path.clone(), line, rule: rule.into() }
}

fn imports(source: &Source, found: &mut Vec<Breach>) {
    let Some(layer) = source.layer() else { return };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        found.push(breach(source, 1, format!("`{layer}` has no line in the table of layers")));
        return;
    };
    for (line, imported) in source.imports() {
        let known = LAYERS.iter().any(|(name, _)| *name == imported);
        if known && imported != layer && !allowed.contains(&&*imported) {
            found.push(breach(source, line, format!("`{layer}` must not import `{imported}`")));
        }
    }
}

fn purity(source: &Source, found: &mut Vec<Breach>) {
    let pure = source.layer().is_some_and(|layer| PURE.contains(&layer)) || source.head().contains("PURE");
    if !pure {
        return;
    }
    for word in IMPURE {
        found.extend(source.lines_with(word).map(|line| breach(source, line, format!("pure code names `{word}`"))));
    }
}

fn unsafe_code(source: &Source, found: &mut Vec<Breach>) {
    let in_os = source.path.starts_with("src/os");
    if !in_os {
        found.extend(source.lines_with("unsafe").map(|line| breach(source, line, "`unsafe` outside src/os")));
    }
    if source.path != Path::new("src/os/mod.rs") {
        let lines = source.lines_with("allow(unsafe_code)");
        found.extend(lines.map(|line| breach(source, line, "`unsafe_code` is allowed in src/os/mod.rs only")));
    }
}

fn printing(source: &Source, found: &mut Vec<Breach>) {
    if !source.path.starts_with("src") || source.path == Path::new(SCREEN) || source.is_test() {
        return;
    }
    for word in PRINTERS {
        found.extend(source.lines_with(word).map(|line| breach(source, line, format!("`{word}` outside {SCREEN}"))));
    }
}

fn exiting(source: &Source, found: &mut Vec<Breach>) {
    if source.path.starts_with("src") && source.path != Path::new("src/main.rs") {
        let lines = source.lines_with("process::exit");
        found.extend(lines.map(|line| breach(source, line, "only main.rs ends the process")));
    }
}

fn opening_words(source: &Source, found: &mut Vec<Breach>) {
    let first = source.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//!").is_none_or(|words| words.trim().is_empty()) {
        found.push(breach(source, 1, "the file does not open with `//!` and what it is for"));
    }
}

fn length(source: &Source, found: &mut Vec<Breach>) {
    let lines = source.text.lines().count();
    if lines > MAX_LINES && !source.head().contains("Data table") {
        found.push(breach(source, MAX_LINES + 1, format!("{lines} lines; {MAX_LINES} is the most")));
    }
}

fn file_name(source: &Source, found: &mut Vec<Breach>) {
    for part in source.path.with_extension("").iter().filter_map(|part| part.to_str()) {
        if part.split('_').any(|word| EMPTY_NAMES.contains(&word)) {
            found.push(breach(source, 1, format!("`{part}` says nothing about what is inside")));
        }
    }
}

fn breaches(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        RULES.iter().for_each(|rule| rule(source, &mut found));
    }
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = source::all_under(root, &["src", "tests"]);
    assert!(sources.len() > 10, "the sources are where they are looked for");
    let found = breaches(&sources);
    assert!(found.is_empty(), "{} breaches of the house rules:\n{}\n", found.len(), found.join("\n"));
}

/// Checks that `text` at `path` is in order but for the words expected in the one breach.
fn assert_breach(path: &str, text: &str, expected: &str) {
    let text = format!("//! A sample.\n{text}\n");
    let found = breaches(&[Source::new(path, &text)]);
    assert!(found.len() == 1 && found[0].contains(expected), "{path} with {text:?}: {found:?}, not {expected:?}");
}

fn assert_fine(path: &str, text: &str) {
    let found = breaches(&[Source::new(path, &format!("//! A sample.\n{text}\n"))]);
    assert!(found.is_empty(), "{path} with {text:?}: {found:?}");
}

#[test]
fn layers_are_kept_apart() {
    assert_breach(
        "src/spec/a.rs",
        "use crate::protocol::Action;",
        "src/spec/a.rs:2: `spec` must not import `protocol`",
    );
    assert_breach(
        "src/cli/a.rs",
        "\nfn f() { crate::daemon::run() }",
        "src/cli/a.rs:3: `cli` must not import `daemon`",
    );
    assert_breach("src/protocol/a.rs", "use crate::{\n spec::AppSpec,\n os::{Pid, supervisor},\n};", "4: `protocol`");
    assert_breach("src/logs/mod.rs", "use super::cluster;", "`logs` must not import `cluster`");
    assert_breach("src/supervisor/a.rs", "fn f() { pmr::logs::x() }", "must not import `logs`");
    assert_breach("src/paths.rs", "use crate::os;", "`paths` must not import `os`");
    assert_breach("src/brandnew/mod.rs", "", "no line in the table");
    assert_fine("src/cli/a.rs", "use crate::{spec, protocol::{daemon, Action}}; use super::daemon; // crate::daemon\n");
    assert_fine("src/cli/a.rs", "fn f() -> &'static str { \"crate::daemon\" }");
    assert_fine("src/main.rs", "use pmr::daemon;");
}

#[test]
fn purity_is_kept() {
    assert_breach("src/spec/a.rs", "fn f() { std::fs::read(\"x\"); }", "2: pure code names `std::fs`");
    assert_breach("src/supervisor/a.rs", "let now = Instant::now();", "`Instant::now`");
    assert_breach("src/protocol/a.rs", "use tokio::sync;", "`tokio::`");
    assert_breach("src/logs/a.rs", "//! PURE.\nuse std::process;", "3: pure code names `std::process`");
    assert_breach("src/spec/a.rs", "use std::{collections, fs};", "`std::fs`");
    assert_fine("src/logs/a.rs", "use std::fs;");
    assert_fine("src/spec/a.rs", "// std::fs is not for us\nfn mytokio() {}");
}

#[test]
fn unsafe_output_and_exits_have_their_place() {
    assert_breach("src/cluster/a.rs", "unsafe { x() }", "`unsafe` outside src/os");
    assert_breach("tests/a.rs", "unsafe { x() }", "`unsafe` outside src/os");
    assert_breach("src/os/a.rs", "#![allow(unsafe_code)]", "in src/os/mod.rs only");
    assert_breach("src/cli/a.rs", "fn f() { println!(\"x\") }", "`println!` outside");
    assert_breach("src/daemon/a.rs", "std::eprint!(\"x\")", "`eprint!` outside");
    assert_breach("src/cli/mod.rs", "std::process::exit(1)", "only main.rs ends the process");
    assert_fine("src/os/a.rs", "unsafe { x() }");
    assert_fine("src/os/mod.rs", "#![allow(unsafe_code)]");
    assert_fine("src/cli/ui.rs", "println!(\"x\")");
    assert_fine("src/main.rs", "std::process::exit(1)");
    assert_fine("src/cli/a.rs", "/* println! */ let s = r#\"unsafe \" println!\"#; let c = '\"'; // unsafe");
}

#[test]
fn files_open_with_their_purpose_are_short_and_well_named() {
    let found = breaches(&[Source::new("src/cli/a.rs", "use std::io;\n")]);
    assert!(found.len() == 1 && found[0].contains("does not open with"), "{found:?}");
    assert_breach("src/cli/a.rs", &"\n".repeat(MAX_LINES - 1), "src/cli/a.rs:401: 401 lines");
    assert_fine("src/cli/a.rs", &"\n".repeat(MAX_LINES - 2));
    assert_fine("src/spec/a.rs", &format!("//! Data table.{}", "\n".repeat(MAX_LINES)));
    assert_breach("src/cli/utils.rs", "", "`utils` says nothing");
    assert_breach("src/cluster/worker_manager/mod.rs", "", "`worker_manager` says nothing");
}
