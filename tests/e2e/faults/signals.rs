//! God or the keeper is suspended by a signal for a while.

use nix::sys::signal::Signal;

use super::{counter_goes_on, no_line_is_missing, start_counter};
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::{Home, processes};

#[test]
fn a_stopped_god_is_reported_and_continues() {
    let home = Home::new();
    let count = start_counter(&home);
    let god = home.god_pid();
    processes::freeze(god);
    home.run("list")
        .refuses(&format!("the daemon (pid {god}) was stopped by a signal"))
        .complains(&format!("kill -CONT {god}"));
    let waiting = home.pmr(["restart", "count"]).spawn();
    processes::signal(god, Signal::SIGCONT);
    waiting.wait(WAIT_LIMIT).ok();
    assert_ne!(home.one("count").pid, count);
    counter_goes_on(&home);
    assert_eq!(home.god_pid(), god);
}

#[test]
fn a_stopped_keeper_is_reported_and_continues() {
    let home = Home::new();
    let count = start_counter(&home);
    let keeper = home.daemon_pid();
    home.pmr(["start", "sleep 1000", "-n", "two"]).run().ok();
    processes::freeze(keeper);
    let stopping = home.pmr(["stop", "two"]).spawn();
    counter_goes_on(&home);
    until("it is a zombie", || {
        let two = home.of("two").remove(0).pid;
        two == 0 || processes::state(two) == Some('Z')
    });
    processes::signal(keeper, Signal::SIGCONT);
    stopping.wait(WAIT_LIMIT).ok();
    assert_eq!(home.one("two").status, "stopped");
    // The same when God is dead and only the keeper could start another.
    processes::freeze(keeper);
    processes::signal(home.god_pid(), Signal::SIGKILL);
    home.run("list").refuses("the daemon's keeper").complains(&format!("kill -CONT {keeper}"));
    processes::signal(keeper, Signal::SIGCONT);
    assert_eq!(home.one("count").pid, count);
    counter_goes_on(&home);
    no_line_is_missing(&home.log("count-out.log"));
}

#[test]
fn a_command_that_waits_for_a_stopped_keeper_says_so() {
    let home = Home::new();
    home.pmr(["start", "sleep 1000", "-n", "two"]).run().ok();
    let keeper = home.daemon_pid();
    processes::freeze(keeper);
    let mut command = std::process::Command::new(crate::support::pmr::BINARY);
    let mut child = command
        .args(["stop", "two"])
        .env("PMR_HOME", home.root())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains(&format!("kill -CONT {keeper}")), "{line}");
    processes::signal(keeper, Signal::SIGCONT);
    assert!(child.wait().unwrap().success());
}
