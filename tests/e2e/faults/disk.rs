//! A disk that is full, read-only, or hangs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Mount, counter_goes_on, daemon_log, kill_god, no_line_is_missing, start_counter};
use crate::support::eventually::until;
use crate::support::{Home, processes};

/// The pid of an app. Standard error is ignored, because there may be warnings.
fn pid_of(home: &Home, name: &str) -> i32 {
    home.pmr(["pid", name]).run().ok().out.trim().parse().expect("a pid")
}

/// Checks what works without writing to the disk: starting, listing, reading logs, a new God, an upgrade, stopping,
/// deleting.
fn works_without_writing(home: &Home, count: i32, error: &str) {
    home.pmr(["start", "sleep 1000", "-n", "two"]).run().ok();
    home.ok("restart two");
    home.run("save").refuses(error);
    home.ok("logs count --nostream --raw --lines 2").says("line ");
    kill_god(home);
    assert_eq!(pid_of(home, "count"), count, "it was not touched");
    home.ok("update").says("2 processes ran on");
    assert!(processes::lives(pid_of(home, "two")));
    home.ok("stop two");
    home.ok("start two");
    assert_eq!(pid_of(home, "count"), count);
}

fn recovers_after_the_fault(home: &Home, count: i32) {
    until("nothing is complained of", || home.ok("jlist").err.is_empty());
    home.ok("save");
    let pid = pid_of(home, "two");
    until("the pid file is written after all", || {
        fs::read_to_string(home.root().join("pids/two-1.pid")).is_ok_and(|text| text == pid.to_string())
    });
    counter_goes_on(home);
    let before = daemon_log(home).len();
    home.ok("restart two");
    until("the daemon's log goes on", || daemon_log(home).len() > before);
    assert_eq!(pid_of(home, "count"), count);
    home.ok("kill");
}

#[test]
fn a_full_disk_stops_only_writes() {
    let home = Home::new();
    let Some(disk) = Mount::memory(home.root(), 1024) else { return };
    let count = start_counter(&home);
    let filler = home.root().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    works_without_writing(&home, count, "No space left on device");
    fs::remove_file(&filler).unwrap();
    drop(file);
    recovers_after_the_fault(&home, count);
    drop(disk);
    home.no_process_left();
}

#[test]
fn a_read_only_home_stops_only_writes() {
    let home = Home::new();
    let Some(disk) = Mount::memory(home.root(), 4096) else { return };
    let count = start_counter(&home);
    let lock = Mount::read_only(home.root());
    home.run("flush").refuses("Read-only file system");
    works_without_writing(&home, count, "Read-only file system");
    drop(lock);
    recovers_after_the_fault(&home, count);
    drop(disk);
    home.no_process_left();
}

/// A FIFO without a reader stands for a disk that never answers: opening it for writing blocks for ever. It is removed
/// when dropped, because readers would block too.
struct Fifo(PathBuf);

impl Fifo {
    fn instead_of(path: &Path) -> Fifo {
        let _ = fs::remove_file(path);
        assert!(super::run("mkfifo", &[path.to_str().unwrap()]));
        Fifo(path.to_path_buf())
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_hanging_disk_blocks_only_its_writers() {
    let home = Home::new();
    let count = start_counter(&home);
    let fifo = home.work().join("fifo");
    let files = [fifo.clone(), home.root().join("pids/stuck-1.pid"), home.root().join("pmr.log")];
    let _fifos = files.map(|path| Fifo::instead_of(&path));
    home.pmr(["start", "while :; do echo x; sleep 0.1; done", "-n", "stuck", "-o", fifo.to_str().unwrap()]).run().ok();
    let god = home.god_pid();
    home.pmr(["start", "sleep 1000", "-n", "other"]).run().ok();
    counter_goes_on(&home);
    kill_god(&home);
    assert!(!processes::lives(god));
    assert_eq!(home.one("count").pid, count);
    home.ok("restart other");
    counter_goes_on(&home);
    home.ok("delete other");
    no_line_is_missing(&home.log("count-out.log"));
    home.ok("stop stuck");
    home.ok("kill");
    home.no_process_left();
}
