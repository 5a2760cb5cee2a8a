//! Processes as the kernel shows them: who belongs to a home, who lives, whose child is whose.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::eventually::until;

/// Pids of all living processes (no zombies) whose environment names this home.
pub fn of_home(root: &Path) -> Vec<i32> {
    let wanted = format!("PMR_HOME={}", root.display());
    let has = |pid: &i32| environ(*pid).split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
    all().into_iter().filter(has).collect()
}

/// How long a process may be without a name: some have none for good.
const NAMELESS_AT_MOST: Duration = Duration::from_secs(5);

/// The environment a process was started with. One that is just being executed has neither that nor a command line for
/// a moment, which is waited for.
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

/// Children of a process, zombies too.
pub fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The parent of a process, while it exists.
pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Sends a signal to a process this test has started, directly or not.
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "{pid} is no process of ours");
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Stops a process, and waits until it is: what follows it cannot notice.
pub fn freeze(pid: i32) {
    signal(pid, Signal::SIGSTOP);
    until("it is stopped", || matches!(state(pid), Some('T') | None));
}

/// What a process says of itself: its words, parted by spaces.
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}

/// What a process has open: targets of its descriptors.
pub fn open_files(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

/// How many files a process has open, but for pipes to itself: threads of the daemon that look at output have one each,
/// and come and go.
pub fn lasting_files(pid: i32) -> usize {
    let all = open_files(pid);
    let is_private = |file: &String| file.starts_with("pipe:") && all.iter().filter(|other| *other == file).count() > 1;
    all.iter().filter(|file| !is_private(file)).count()
}

/// Bytes of memory a process occupies.
pub fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}
