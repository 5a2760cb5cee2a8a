//! The machine fails and the daemon does not: during each fault apps run on and the command line names the cause, and
//! everything recovers when the cause is gone.

mod apps;
mod clock;
mod deleted_files;
mod disk;
mod exhaustion;
mod signals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::eventually::until;
use crate::support::{Home, processes};

/// Prints numbered lines, twenty a second, without starting processes.
const COUNTER: &str = "perl -e '$|=1; for($i=1;;$i++) { print \"line $i\\n\"; select(undef,undef,undef,0.05) }'";

/// Starts the counter as the app `count`, and returns its pid.
fn start_counter(home: &Home) -> i32 {
    home.pmr(["start", COUNTER, "-n", "count"]).run().ok();
    home.logged("count-out.log", "line 3\n");
    home.one("count").pid
}

/// Waits until the counter's log has grown by some lines.
fn counter_goes_on(home: &Home) {
    let lines = || home.log("count-out.log").lines().count();
    let before = lines();
    until("the counter's log grows", || lines() > before + 3);
}

/// Asserts that the numbers in the counter's log are consecutive. Text after the last newline is incomplete and
/// ignored.
#[track_caller]
fn no_line_is_missing(log: &str) {
    let log = log.rfind('\n').map_or("", |end| &log[..end]);
    let numbers: Vec<u64> = log.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(numbers.len() > 3 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{log}");
}

/// The log of the daemon itself.
fn daemon_log(home: &Home) -> String {
    fs::read_to_string(home.root().join("pmr.log")).unwrap_or_default()
}

/// Kills God, and returns the pid of the next one.
fn kill_god(home: &Home) -> i32 {
    let god = home.god_pid();
    processes::signal(god, nix::sys::signal::Signal::SIGKILL);
    until("God is gone", || !processes::lives(god));
    home.god_pid()
}

/// Prints why a test is skipped.
fn skip(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|ran| ran.status.success())
}

/// Processor time of a process or thread, in clock ticks.
fn ticks(path: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{path}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or(vec![], |(_, rest)| rest.split(' ').collect());
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// A file system mounted on a folder, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    /// Mounts an empty tmpfs of this many KiB. `None`, with a message, where mounting is not allowed.
    fn memory(at: &Path, kib: u32) -> Option<Mount> {
        let at = at.to_path_buf();
        fs::create_dir_all(&at).unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs", at.to_str().unwrap()]);
        if !mounted {
            skip("nothing can be mounted here");
        }
        mounted.then_some(Mount(at))
    }

    /// Makes the present content read-only. Files that are open for writing stay writable.
    fn read_only(at: &Path) -> Mount {
        let path = at.to_str().unwrap();
        assert!(run("mount", &["--bind", path, path]) && run("mount", &["-o", "remount,bind,ro", path]));
        Mount(at.to_path_buf())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// A cgroup in a v1 hierarchy, removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Creates a group. `None`, with a message, where the controller is missing or not ours to use.
    fn new(controller: &str) -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of = |line: &str| -> Option<String> {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names.split(',').any(|name| name == controller).then(|| path.trim_matches('/').to_owned())
        };
        let folder = own.lines().find_map(of).map(|path| Path::new("/sys/fs/cgroup").join(controller).join(path));
        let name = format!("pmr-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let name: String = name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
        let group = folder.map(|folder| folder.join(name)).filter(|group| fs::create_dir(group).is_ok());
        if group.is_none() {
            skip(&format!("no `{controller}` cgroup (v1) may be made here"));
        }
        group.map(Group)
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default().trim().to_owned()
    }

    fn take_in(&self, pid: i32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let above = self.0.parent().unwrap().join("cgroup.procs");
        for pid in self.get("cgroup.procs").lines() {
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}
