//! Out of open files, of processes, of memory.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Group, counts_on, daemon_log, kill_god, nothing_is_missing, start_counter, ticks};
use crate::support::eventually::until;
use crate::support::listing::Row;
use crate::support::{Home, processes};

fn limit_files(pid: i32, count: usize) {
    assert!(super::run("prlimit", &["--pid", &pid.to_string(), &format!("--nofile={count}:")]), "prlimit");
}

/// The number the next file would get above all others.
fn next_file(pid: i32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).max().unwrap_or(0) + 1
}

fn soft_limit(pid: i32) -> usize {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("all have it");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).expect("a number")
}

#[test]
fn no_more_open_files() {
    let home = Home::new();
    start_counter(&home);
    let god = home.god_pid();
    let usual = soft_limit(god);
    // Every number is taken below the limit, but for few that are free among the lower ones.
    limit_files(god, next_file(god).saturating_sub(1));
    let (before, start) = (ticks(&god.to_string()), Instant::now());
    let failed = home.pmr(["start", "sleep 1000", "-n", "two"]).run();
    assert_eq!(failed.code, Some(1), "{}", failed.story());
    until("some time passes", || start.elapsed() > Duration::from_secs(2));
    let (used, took) = (ticks(&god.to_string()) - before, start.elapsed());
    assert!(u128::from(used) * 10 < took.as_millis() / 2, "it does not spin: {used} ticks in {took:?}");
    counts_on(&home);
    limit_files(god, usual);
    home.daemon_logged("Too many open files");
    // The one that failed may have been taken in, or may be yet.
    until("two runs", || {
        home.pmr(["start", "sleep 1000", "-n", "two"]).run();
        home.of("two").iter().any(Row::online)
    });
    nothing_is_missing(&home.log("count-out.log"));
}

/// A process with as many connections to the daemon as it may have files. Other tests need theirs.
struct Hogs(Child);

impl Hogs {
    fn new(home: &Home) -> Hogs {
        let connect =
            "my @all; for (1..1100) { my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or last; push @all, $s }
            print \"up\\n\"; sleep 1000";
        let mut perl = Command::new("perl");
        perl.args(["-MIO::Socket::UNIX", "-e", &format!("$| = 1; {connect}")]).arg(home.root().join("rpc.sock"));
        let mut child = perl.stdout(Stdio::piped()).spawn().expect("perl is installed");
        child.stdout.take().expect("it is piped").read_exact(&mut [0; 3]).expect("it says when it has them");
        Hogs(child)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_that_stay_take_no_files_from_apps_nor_from_the_next_god() {
    let home = Home::new();
    let count = start_counter(&home);
    let hogs = Hogs::new(&home);
    until("some are turned down or wait", || daemon_log(&home).contains("as many as are served at once"));
    home.run("list").refuses("takes calls but did not answer");
    counts_on(&home);
    kill_god(&home);
    counts_on(&home);
    drop(hogs);
    until("the door is open again", || home.run("jlist").code == Some(0));
    assert_eq!(home.one("count").pid, count);
    nothing_is_missing(&home.log("count-out.log"));
}

#[test]
fn no_more_processes() {
    let Some(group) = Group::new("pids") else { return };
    let home = Home::new();
    let count = start_counter(&home);
    let (keeper, god) = (home.daemon_pid(), home.god_pid());
    group.take_in(keeper);
    group.take_in(god);
    group.set("pids.max", "1");
    home.pmr(["start", "sleep 1000", "-n", "two"]).run().refuses("making a process: Resource temporarily unavailable");
    home.ok("save");
    home.ok("flush two");
    counts_on(&home);
    processes::signal(god, nix::sys::signal::Signal::SIGKILL);
    home.run("list").refuses("did not answer");
    assert!(processes::lives(count));
    group.set("pids.max", "max");
    until("a God comes", || home.run("jlist").code == Some(0));
    assert_eq!(home.one("count").pid, count);
    home.status("two", "online");
    counts_on(&home);
    nothing_is_missing(&home.log("count-out.log"));
    home.ok("kill");
    home.deserted();
}

#[test]
fn no_more_memory() {
    let Some(group) = Group::new("memory") else { return };
    let home = Home::new();
    let count = start_counter(&home);
    let god = home.god_pid();
    group.take_in(god);
    group.set("memory.limit_in_bytes", "2M");
    let greedy = format!(
        "{{\"apps\": [{{\"name\": \"greedy\", \"script\": \"sleep\", \"args\": \"1000\", \"env\": {{\"A\": \"{}\"}}}}]}}",
        "x".repeat(6 << 20)
    );
    let file = home.write("greedy.json", &greedy);
    let failed = home.pmr(["start".into(), file.into_os_string()]).run();
    assert_ne!(failed.code, Some(0), "{}", failed.story());
    until("God is killed", || !processes::lives(god));
    until("another goes on", || home.run("jlist").code == Some(0));
    assert_eq!(home.one("count").pid, count);
    counts_on(&home);
    nothing_is_missing(&home.log("count-out.log"));
    home.daemon_logged("the daemon was killed by SIGKILL");
    kill_god(&home);
    assert_eq!(home.one("count").pid, count);
}
