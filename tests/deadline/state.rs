//! The state of a test that takes too long: shows its processes and its daemon, and kills them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Watched;

/// Time limit of a command that asks the daemon. The daemon may be what hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// How long killed processes may be replaced by their supervisor before the killing gives up.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Number of lines of the daemon's log to show.
const TAIL: usize = 60;
/// Number of bytes of a command's output to show.
const SHOWN: usize = 6000;

impl Watched {
    /// The processes of the test, the lists of its daemon and the end of the daemon's log, as lines of text.
    pub fn state(&self) -> String {
        let mut text = format!("processes:\n{}", self.processes().into_iter().map(line).collect::<String>());
        if let Some(home) = &self.home {
            for command in ["list", "jlist"] {
                text += &format!("pmr {command}:\n{}\n", output_of(home, command));
            }
            text += &format!("the end of {}:\n{}", home.join("pmr.log").display(), tail(&home.join("pmr.log")));
        }
        text
    }

    /// Kills the processes of the test until none is left.
    pub fn kill(&self) {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() || start.elapsed() > KILL_LIMIT {
                return;
            }
            for pid in left.into_iter().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Live processes that name the scratch folder in arguments or environment, and those that the thread of the test
    /// started, with all descendants. This process is not among them.
    fn processes(&self) -> BTreeSet<i32> {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        let alive: Vec<i32> = all().into_iter().filter(|pid| *pid != own && state(*pid) != Some('Z')).collect();
        let mut found: BTreeSet<i32> = started_by(own, self.tid);
        if let Some(scratch) = &self.scratch {
            found.extend(alive.iter().filter(|pid| names(**pid, scratch)));
        }
        loop {
            let more = alive.iter().filter(|pid| parent(**pid).is_some_and(|parent| found.contains(&parent)));
            let more: Vec<i32> = more.filter(|pid| !found.contains(pid)).copied().collect();
            if more.is_empty() {
                found.retain(|pid| alive.contains(pid));
                return found;
            }
            found.extend(more);
        }
    }
}

fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Children of a thread of this process. Empty where the kernel lacks this file.
fn started_by(own: i32, thread: i32) -> BTreeSet<i32> {
    let text = fs::read_to_string(format!("/proc/{own}/task/{thread}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn names(pid: i32, scratch: &Path) -> bool {
    let word = scratch.as_os_str().as_encoded_bytes();
    let holds = |file: &str| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.windows(word.len()).any(|part| part == word)
    };
    holds("environ") || holds("cmdline")
}

/// Fields of `/proc/PID/stat` after the process name: state, parent and so on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn state(pid: i32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn line(pid: i32) -> String {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let waits = String::from_utf8_lossy(&read("wchan")).into_owned();
    let (state, parent) = (state(pid).unwrap_or('?'), parent(pid).unwrap_or(0));
    format!("  {pid} {state} parent {parent}, in {waits}: {words}\n")
}

/// Output of a command of the binary under test, if the command ends in time.
fn output_of(home: &Path, command: &str) -> String {
    let Ok(output) = tempfile::NamedTempFile::new() else { return "no file for its output".to_owned() };
    let Ok(handles) = output.as_file().try_clone().and_then(|out| Ok((out, output.as_file().try_clone()?))) else {
        return "no handle of a file for its output".to_owned();
    };
    let mut pmr = Command::new(env!("CARGO_BIN_EXE_pmr"));
    pmr.arg(command).env("PMR_HOME", home).stdin(Stdio::null()).stdout(handles.0).stderr(handles.1);
    let Ok(mut child) = pmr.spawn() else { return "cannot be started".to_owned() };
    let start = Instant::now();
    while child.try_wait().is_ok_and(|status| status.is_none()) && start.elapsed() < COMMAND_LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    let hung = child.try_wait().is_ok_and(|status| status.is_none());
    let _ = child.kill();
    let _ = child.wait();
    let output_bytes = fs::read(output.path()).unwrap_or_default();
    let note = if hung { format!("\n(it did not end in {COMMAND_LIMIT:?})") } else { String::new() };
    format!("{}{note}", String::from_utf8_lossy(&output_bytes[..output_bytes.len().min(SHOWN)]))
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
