//! Processes as the kernel shows them: those of a home, their states, and their children.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually::until;

/// Pids of all live processes (no zombies) whose environment names this home.
pub fn of_home(root: &Path) -> Vec<i32> {
    let wanted = format!("PMR_HOME={}", root.display());
    let has = |pid: &i32| environ(*pid).split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
    all().into_iter().filter(has).collect()
}

/// How long to wait for the environment of a process. Some processes never have one.
const NAMELESS_AT_MOST: Duration = Duration::from_secs(5);

/// The environment of a process at its start. A process that is just being executed has neither an environment nor a
/// command line for a moment; this function waits for them.
pub fn environ(pid: i32) -> Vec<u8> {
    let start = Instant::now();
    loop {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_whole = !environ.is_empty() || !command_line(pid).is_empty();
        if is_whole || !lives(pid) || resident(pid) == 0 || start.elapsed() > NAMELESS_AT_MOST {
            return environ;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// True while the process exists and is no zombie.
pub fn lives(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// The letter of the process's state.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Children of a process, including zombies.
pub fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The parent of a process, while it exists.
pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Sends a signal to a process that this test started, directly or not.
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "{pid} is no process of ours");
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Suspends a process with SIGSTOP, and waits until it is suspended: it cannot notice what happens next.
pub fn freeze(pid: i32) {
    signal(pid, Signal::SIGSTOP);
    until("it is stopped", || matches!(state(pid), Some('T') | None));
}

/// The command line of a process, its words separated by spaces.
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}

/// The open files of a process: targets of its descriptors.
pub fn open_files(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

/// The number of open files of a process, without pipes to itself: the daemon's threads that read output have one each,
/// and their number varies.
pub fn lasting_files(pid: i32) -> usize {
    let all = open_files(pid);
    let is_private = |file: &String| file.starts_with("pipe:") && all.iter().filter(|other| *other == file).count() > 1;
    all.iter().filter(|file| !is_private(file)).count()
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
