//! `pmr demo`, run to its end and interrupted: no process and no file is left behind.

mod deadline;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadline::Deadline;
use rustix::process::{Pid, Signal, kill_process};

fn demo(scratch: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmr"));
    command.arg("demo").env("TMPDIR", scratch).env_remove("PMR_HOME").env("HOME", scratch);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Processes that name this folder in their arguments or environment: those of a home in it.
fn left_behind(scratch: &Path) -> Vec<String> {
    let word = scratch.to_str().unwrap().as_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let about = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let text = [about("cmdline"), about("environ")].concat();
        if text.windows(word.len()).any(|part| part == word) {
            found.push(format!("{}: {}", entry.path().display(), String::from_utf8_lossy(&about("cmdline"))));
        }
    }
    found
}

fn assert_clean(scratch: &Path) {
    let start = Instant::now();
    while !left_behind(scratch).is_empty() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(left_behind(scratch), [""; 0]);
    let files: Vec<_> = std::fs::read_dir(scratch).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn the_demo_loses_no_request_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let _deadline = Deadline::new(Some(scratch.path()));
    let output = demo(scratch.path()).wait_with_output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    for step in ["start", "scale to", "reload all", "kill -9", "scale down to"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("│ {step}"))), "no row `{step}`:\n{said}");
    }
    assert!(said.contains("failed: none refused, reset, cut short or left hanging."), "{said}");
    assert_clean(scratch.path());
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let _deadline = Deadline::new(Some(scratch.path()));
    let mut child = demo(scratch.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("2/5")), "it never got to the second step");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_clean(scratch.path());
}
