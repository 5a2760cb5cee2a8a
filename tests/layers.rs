//! The house rules as a test: which layer may import which, what pure code must not name, where `unsafe` and output live, how
//! files open and how long they get. Reads the sources as text; each rule is also shown a sample that breaks it.

mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use source::Source;
use source::circles::{Circle, circles};
use source::walks::stale_names;

/// Each top-level module and what it may import. `main.rs` and `lib.rs` may import everything. `worker` is a crate of
/// its own, which cannot import any of the others.
const LAYERS: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("worker", &[]),
    ("os", &["worker"]),
    ("paths", &[]),
    ("guide", &["spec"]),
    ("protocol", &["spec", "worker"]),
    ("supervisor", &["spec", "protocol"]),
    ("settings", &["os", "paths", "spec"]),
    ("logs", &["os", "spec", "protocol", "paths"]),
    ("keeper", &["os"]),
    ("cluster", &["os", "keeper", "spec", "protocol"]),
    ("startup", &["os", "spec", "paths"]),
    ("doctor", &["os", "startup"]),
    ("cli", &["protocol", "spec", "guide", "os", "paths", "logs", "settings", "startup", "doctor", "worker"]),
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
/// The folders with `unsafe`: that of the program, and that of the worker library. Each `mod.rs` allows it.
const SYSTEM_CALLS: &[&str] = &["src/os", "src/worker/os"];
/// File names that say nothing.
const EMPTY_NAMES: &[&str] = &["manager", "helper", "helpers", "util", "utils", "common", "misc"];
const MAX_LINES: usize = 600;
/// Files that may form a circle of imports, as long as one folder holds them all.
const MAX_CIRCLE: usize = 3;
/// The simulation knows itself as a whole.
const MAY_BE_ROUND: &str = "src/supervisor/simulation";

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

/// What the demo takes of the command line: what lies below the commands, one of which runs it.
const BELOW_COMMANDS: &[&str] = &["client", "demo", "failure", "shutdown", "ui", "view"];

type Rule = fn(&Source, &mut Vec<Breach>);

const RULES: &[Rule] =
    &[imports, demo_imports, purity, unsafe_code, printing, exiting, opening_words, length, file_name];

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

fn demo_imports(source: &Source, found: &mut Vec<Breach>) {
    if !source.path.starts_with("src/cli/demo") {
        return;
    }
    let upward = source.named_in("crate::cli").into_iter().filter(|(_, name)| !BELOW_COMMANDS.contains(&name.as_str()));
    found.extend(upward.map(|(line, name)| breach(source, line, format!("the demo must not import `cli::{name}`"))));
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
    if !SYSTEM_CALLS.iter().any(|folder| source.path.starts_with(folder)) {
        found.extend(source.lines_with("unsafe").map(|line| breach(source, line, "`unsafe` outside os")));
    }
    if !SYSTEM_CALLS.iter().any(|folder| source.path == Path::new(folder).join("mod.rs")) {
        let lines = source.lines_with("allow(unsafe_code)");
        found.extend(lines.map(|line| breach(source, line, "`unsafe_code` is allowed in mod.rs of os only")));
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

/// Circles of imports that cross a folder, or are larger than [`MAX_CIRCLE`].
fn round_ways(sources: &[Source]) -> Vec<String> {
    let is_free = |circle: &Circle| circle.iter().all(|file| file.starts_with(MAY_BE_ROUND));
    let mut found = Vec::new();
    for circle in circles(sources).iter().filter(|circle| !is_free(circle)) {
        let folders: BTreeSet<PathBuf> = circle.iter().map(|file| folder_of(file, sources)).collect();
        let files: Vec<_> = circle.iter().map(|file| file.display().to_string()).collect();
        if folders.len() > 1 {
            found.push(format!("a circle of imports crosses a folder: {}", files.join(", ")));
        } else if files.len() > MAX_CIRCLE {
            found.push(format!("a circle of imports of more than {MAX_CIRCLE} files: {}", files.join(", ")));
        }
    }
    found
}

/// The folder a file belongs to: `tail.rs` beside a folder `tail` is of that folder.
fn folder_of(file: &Path, sources: &[Source]) -> PathBuf {
    let own = file.with_extension("");
    let has_own = sources.iter().any(|source| source.path.starts_with(&own));
    if has_own { own } else { file.parent().unwrap_or(file).to_owned() }
}

fn breaches(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        RULES.iter().for_each(|rule| rule(source, &mut found));
    }
    found.iter().map(ToString::to_string).chain(round_ways(sources)).collect()
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
    assert_breach("src/spec/a.rs", "use pmr_worker::protocol;", "`spec` must not import `worker`");
    assert_breach("src/worker/a.rs", "use pmr::os;", "`worker` must not import `os`");
    assert_fine("src/os/a.rs", "pub use pmr_worker::os::packets;");
    assert_fine("src/worker/a.rs", "use crate::protocol::VERSION; use super::os;");
}

#[test]
fn the_demo_is_below_the_commands() {
    assert_breach("src/cli/demo/a.rs", "use crate::cli::commands::kill;", "must not import `cli::commands`");
    assert_breach("src/cli/demo/a.rs", "use crate::cli::{ui::Ui, Context};", "must not import `cli::Context`");
    assert_fine("src/cli/demo/a.rs", "use crate::cli::client::Client;");
    assert_fine("src/cli/a.rs", "use crate::cli::commands::kill;");
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
    assert_breach("src/cluster/a.rs", "unsafe { x() }", "`unsafe` outside os");
    assert_breach("tests/a.rs", "unsafe { x() }", "`unsafe` outside os");
    assert_breach("src/os/a.rs", "#![allow(unsafe_code)]", "in mod.rs of os only");
    assert_breach("src/cli/a.rs", "fn f() { println!(\"x\") }", "`println!` outside");
    assert_breach("src/daemon/a.rs", "std::eprint!(\"x\")", "`eprint!` outside");
    assert_breach("src/cli/mod.rs", "std::process::exit(1)", "only main.rs ends the process");
    assert_breach("src/worker/a.rs", "unsafe { x() }", "`unsafe` outside os");
    assert_breach("src/worker/os/a.rs", "#![allow(unsafe_code)]", "in mod.rs of os only");
    assert_fine("src/os/a.rs", "unsafe { x() }");
    assert_fine("src/worker/os/a.rs", "unsafe { x() }");
    assert_fine("src/os/mod.rs", "#![allow(unsafe_code)]");
    assert_fine("src/cli/ui.rs", "println!(\"x\")");
    assert_fine("src/main.rs", "std::process::exit(1)");
    assert_fine("src/cli/a.rs", "/* println! */ let s = r#\"unsafe \" println!\"#; let c = '\"'; // unsafe");
}

#[test]
fn files_open_with_their_purpose_are_short_and_well_named() {
    let found = breaches(&[Source::new("src/cli/a.rs", "use std::io;\n")]);
    assert!(found.len() == 1 && found[0].contains("does not open with"), "{found:?}");
    assert_breach("src/cli/a.rs", &"\n".repeat(MAX_LINES - 1), "src/cli/a.rs:601: 601 lines");
    assert_fine("src/cli/a.rs", &"\n".repeat(MAX_LINES - 2));
    assert_fine("src/spec/a.rs", &format!("//! Data table.{}", "\n".repeat(MAX_LINES)));
    assert_breach("src/cli/utils.rs", "", "`utils` says nothing");
    assert_breach("src/cluster/worker_manager/mod.rs", "", "`worker_manager` says nothing");
}

/// The circles in these files, each given by its path and its code.
fn round_ways_of(files: &[(&str, &str)]) -> Vec<String> {
    round_ways(&files.iter().map(|(path, code)| Source::new(path, code)).collect::<Vec<_>>())
}

#[test]
fn imports_run_in_no_circle_across_folders() {
    let across = [
        ("src/os/mod.rs", "pub mod net;\npub mod clock;"),
        ("src/os/clock.rs", "use super::net::Socket;"),
        ("src/os/net.rs", "mod tcp; pub use tcp::Socket;"),
        ("src/os/net/tcp.rs", "use crate::os::clock; pub struct Socket;"),
    ];
    let found = round_ways_of(&across);
    assert!(found.len() == 1 && found[0].contains("crosses a folder: src/os/clock.rs, src/os/net/tcp.rs"), "{found:?}");

    let up_and_down = [
        ("src/cluster/mod.rs", "mod state; pub struct Notice; fn f() { state::new(); }"),
        ("src/cluster/state/mod.rs", "use super::Notice;"),
    ];
    assert_eq!(round_ways_of(&up_and_down).len(), 1, "what a parent defines is not for those it imports");

    let passed_on = [
        ("src/cluster/mod.rs", "mod notice; mod state; pub use self::notice::Notice; fn f() { state::new(); }"),
        ("src/cluster/notice.rs", "pub struct Notice;"),
        ("src/cluster/state/mod.rs", "use super::Notice;"),
    ];
    assert_eq!(round_ways_of(&passed_on), [""; 0], "what it only passes on is another's");
}

#[test]
fn circles_inside_a_folder_are_small() {
    let three = [
        ("src/logs/a.rs", "use super::b::B;"),
        ("src/logs/b.rs", "use crate::logs::{c::{C, self}, x as y};"),
        ("src/logs/c.rs", "fn f() { super::a::g() } mod tests { use super::super::d; }"),
        ("src/logs/d.rs", "use super::a; // use super::d"),
    ];
    assert_eq!(round_ways_of(&three), [""; 0]);
    let four = [three[0], three[1], ("src/logs/c.rs", "use super::d::D;"), three[3]];
    let found = round_ways_of(&four);
    assert!(found.len() == 1 && found[0].contains("more than 3 files: src/logs/a.rs"), "{found:?}");
    let simulated = four.map(|(path, code)| (path.replace("logs", "supervisor/simulation"), code.to_owned()));
    let simulated: Vec<_> = simulated.iter().map(|(path, code)| (&**path, &**code)).collect();
    assert_eq!(round_ways_of(&simulated), [""; 0]);
}

#[test]
fn the_walks_of_the_architecture_page_are_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    assert_eq!(page.matches(".rs`: ").count(), 20, "two walks of ten steps");
    assert_eq!(stale_names(&page, &source::all_under(root, &["src"])), [""; 0]);

    let sources = [Source::new("src/a.rs", "fn go() {}"), Source::new("src/b.rs", "enum Effect { Spawn }")];
    let walk = |text: &str| stale_names(text, &sources);
    assert_eq!(walk("//! 1. `a.rs`: `go` does\n//!    `Effect::Spawn`.\n//! `stay` is in no step."), [""; 0]);
    assert_eq!(walk("//! 1. `a.rs`: goes,\n//!    `stay`."), ["`stay` is not in src/a.rs"]);
    assert_eq!(walk("//! 1. `b.rs`: `go`."), ["`go` is not in src/b.rs"]);
    assert_eq!(walk("//! 1. `a.rs`: `Effect::Kill`."), ["`Effect::Kill` is not in src/a.rs"]);
    assert_eq!(walk("//! 1. `c.rs`: `go`."), ["there is no src/c.rs"]);
}
