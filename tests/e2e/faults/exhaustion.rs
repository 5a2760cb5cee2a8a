//! Exhausted resources: open files, processes, memory.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Group, counter_goes_on, daemon_log, kill_god, no_line_is_missing, start_counter, ticks};
use crate::support::eventually::until;
use crate::support::listing::Row;
use crate::support::{Home, processes};

fn limit_files(pid: i32, count: usize) {
    assert!(super::run("prlimit", &["--pid", &pid.to_string(), &format!("--nofile={count}:")]), "prlimit");
}

/// The descriptor number after the highest one in use.
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
fn apps_run_on_when_god_is_out_of_files() {
    let home = Home::new();
    start_counter(&home);
    let god = home.god_pid();
    let usual = soft_limit(god);
    // All descriptors below the limit are in use, except a few free ones among the lower numbers.
    limit_files(god, next_file(god).saturating_sub(1));
    let (before, start) = (ticks(&god.to_string()), Instant::now());
    let failed = home.pmr(["start", "sleep 1000", "-n", "two"]).run();
    assert_eq!(failed.code, Some(1), "{}", failed.transcript());
    until("some time passes", || start.elapsed() > Duration::from_secs(2));
    let (used, took) = (ticks(&god.to_string()) - before, start.elapsed());
    assert!(u128::from(used) * 10 < took.as_millis() / 2, "God does not spin: {used} ticks in {took:?}");
    counter_goes_on(&home);
    limit_files(god, usual);
    home.daemon_logged("Too many open files");
    // The app of the failed command may have been registered, or may still be.
    until("two runs", || {
        home.pmr(["start", "sleep 1000", "-n", "two"]).run();
        home.of("two").iter().any(Row::online)
    });
    no_line_is_missing(&home.log("count-out.log"));
}

/// A process with as many connections to the daemon as it may have open files. It is a process of its own because the
/// other tests need their descriptors.
struct IdleConnections(Child);

impl IdleConnections {
    fn new(home: &Home) -> IdleConnections {
        let connect =
            "my @all; for (1..1100) { my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or last; push @all, $s }
            print \"up\\n\"; sleep 1000";
        let mut perl = Command::new("perl");
        perl.args(["-MIO::Socket::UNIX", "-e", &format!("$| = 1; {connect}")]).arg(home.root().join("rpc.sock"));
        let mut child = perl.stdout(Stdio::piped()).spawn().expect("perl is installed");
        child.stdout.take().expect("it is piped").read_exact(&mut [0; 3]).expect("it says when it has them");
        IdleConnections(child)
    }
}

impl Drop for IdleConnections {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn idle_connections_take_no_files_from_apps_or_the_next_god() {
    let home = Home::new();
    let count = start_counter(&home);
    let connections = IdleConnections::new(&home);
    until("some are turned down or wait", || daemon_log(&home).contains("the most that are served at once"));
    home.run("list").refuses("accepts connections but did not answer");
    counter_goes_on(&home);
    kill_god(&home);
    counter_goes_on(&home);
    drop(connections);
    until("the daemon accepts again", || home.run("jlist").code == Some(0));
    assert_eq!(home.one("count").pid, count);
    no_line_is_missing(&home.log("count-out.log"));
}

#[test]
fn apps_run_on_when_the_daemon_cannot_fork() {
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
    counter_goes_on(&home);
    processes::signal(god, nix::sys::signal::Signal::SIGKILL);
    home.run("list").refuses("did not answer");
    assert!(processes::lives(count));
    group.set("pids.max", "max");
    until("a God answers", || home.run("jlist").code == Some(0));
    assert_eq!(home.one("count").pid, count);
    home.status("two", "online");
    counter_goes_on(&home);
    no_line_is_missing(&home.log("count-out.log"));
    home.ok("kill");
    home.no_process_left();
}

#[test]
fn apps_run_on_when_god_is_out_of_memory() {
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
    assert_ne!(failed.code, Some(0), "{}", failed.transcript());
    until("God is killed", || !processes::lives(god));
    until("another God answers", || home.run("jlist").code == Some(0));
    assert_eq!(home.one("count").pid, count);
    counter_goes_on(&home);
    no_line_is_missing(&home.log("count-out.log"));
    home.daemon_logged("the daemon was killed by SIGKILL");
    kill_god(&home);
    assert_eq!(home.one("count").pid, count);
}
