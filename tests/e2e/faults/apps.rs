//! Apps that misbehave.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Group, counter_goes_on, no_line_is_missing, start_counter, ticks};
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::{Home, processes};

fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

#[test]
fn an_app_that_floods_its_log_blocks_nobody() {
    let home = Home::new();
    start_counter(&home);
    let god = home.god_pid();
    home.pmr(["start", "exec yes 0123456789012345678901234567890123456789", "-n", "flood", "-o", "/dev/null"])
        .run()
        .ok();
    let main_thread = format!("{god}/task/{god}");
    let (before, memory, start) = (ticks(&main_thread), resident_kib(god), Instant::now());
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(3) {
        let ran = home.ok("jlist");
        slowest = slowest.max(ran.took);
        counter_goes_on(&home);
    }
    let (used, took) = (ticks(&main_thread) - before, start.elapsed());
    // A command that is blocked for long fails by itself.
    let _ = writeln!(std::io::stdout(), "the slowest command took {slowest:?}");
    assert!(u128::from(used) * 10 < took.as_millis() / 3, "{used} ticks in the main thread in {took:?}");
    assert!(resident_kib(god) < memory + (16 << 10), "{memory} KiB, then {}", resident_kib(god));
    home.ok("delete flood");
    no_line_is_missing(&home.log("count-out.log"));
}

#[test]
fn an_app_that_floods_its_channel_blocks_nobody() {
    let home = Home::new();
    start_counter(&home);
    home.pmr(["start", "exec yes 1 >&3", "-n", "flood"]).run().ok();
    // This app leaves a process behind that goes on writing.
    home.pmr(["start", "yes 1 >&3 & sleep 1; exit 1", "-n", "fleeting", "--no-autorestart", "-k", "200"]).run().ok();
    home.status("fleeting", "stopped");
    counter_goes_on(&home);
    let resident = resident_kib(home.god_pid());
    assert!(resident < 64 << 10, "{resident} KiB");
    home.ok("delete all");
    no_line_is_missing(&home.log("count-out.log"));
}

#[test]
fn an_app_that_forks_without_end_can_be_stopped() {
    let home = Home::new();
    start_counter(&home);
    // At most two processes at a time, and never the same ones.
    let hopper = "exec perl -e 'while (1) { my $p = fork; exit if $p; select(undef,undef,undef,0.001) }'";
    home.pmr(["start", hopper, "-n", "hopper", "--no-autorestart", "-k", "200"]).run();
    let god = home.god_pid();
    let (before, start) = (ticks(&god.to_string()), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        home.ok("jlist");
    }
    let used = ticks(&god.to_string()) - before;
    counter_goes_on(&home);
    home.ok("delete hopper");
    let left = || {
        processes::of_home(home.root())
            .into_iter()
            .filter(|pid| processes::command_line(*pid).contains("my $p"))
            .count()
    };
    assert_eq!(left(), 0, "God used {used} ticks while it lived");
    no_line_is_missing(&home.log("count-out.log"));
}

#[test]
fn a_fork_bomb_at_its_limit_can_be_stopped() {
    let Some(_) = Group::new("pids") else { return };
    let home = Home::new();
    start_counter(&home);
    let bomb = "while :; do sleep 1000 & done 2>/dev/null";
    home.pmr(["start", bomb, "-n", "bomb", "--pids", "100", "-k", "200", "--no-autorestart"]).run();
    let sleepers = || {
        processes::of_home(home.root()).into_iter().filter(|pid| processes::command_line(*pid) == "sleep 1000").count()
    };
    until("it is at its limit, or has given up", || sleepers() > 90);
    counter_goes_on(&home);
    home.ok("delete bomb");
    assert_eq!(sleepers(), 0);
}

#[test]
fn a_process_that_survives_sigkill_is_reported_and_left() {
    let Some(group) = Group::new("freezer") else { return };
    let home = Home::new();
    let count = start_counter(&home);
    home.pmr(["start", "exec sleep 1000", "-n", "frozen", "-k", "100"]).run().ok();
    let frozen = home.one("frozen").pid;
    group.take_in(frozen);
    group.set("freezer.state", "FROZEN");
    until("it is frozen", || group.get("freezer.state") == "FROZEN");
    let stopping = home.pmr(["stop", "frozen"]).spawn();
    home.status("frozen", "stopping");
    home.ok("restart count");
    assert_ne!(home.one("count").pid, count, "others are not held up");
    stopping.wait(WAIT_LIMIT).refuses("not even SIGKILL ends it at present");
    assert!(processes::lives(frozen));
    group.set("freezer.state", "THAWED");
    home.status("frozen", "stopped");
    // The same while the daemon shuts down.
    home.ok("start frozen");
    let frozen = home.one("frozen").pid;
    group.take_in(frozen);
    group.set("freezer.state", "FROZEN");
    until("it is frozen", || group.get("freezer.state") == "FROZEN");
    home.pmr(["kill"]).run().refuses("not even SIGKILL ends it at present").says("has ended");
    group.set("freezer.state", "THAWED");
    home.no_process_left();
}
