//! Where only ancestors of a process may trace it (Yama, `kernel.yama.ptrace_scope` 1), the keeper traces for God.
//!
//! Few kernels that run tests have Yama. So with the point `descendants-only` (see [`pmr::os::tracer`]) God behaves as
//! if every way to trace its workers were refused, as for an ordinary user. The keeper has no such point.

use nix::sys::signal::Signal;

use super::crash::dies_once_in;
use super::{Fixture, PYTHON, is_possible, there};
use crate::crash::kill_god;
use crate::support::eventually::until;
use crate::support::inventory::processes_match_list;
use crate::support::listing::pids;
use crate::support::pmr::Running;
use crate::support::{Home, app, http, processes};

const NOBODY: u32 = 65534;
const POINT: &str = "descendants-only=return";

/// A server with two workers, in a home whose God may not trace.
fn fixture() -> Option<Fixture> {
    let home = if nix::unistd::Uid::effective().is_root() { Home::of_user(NOBODY) } else { Home::new() };
    if !there(PYTHON) || !is_possible(&home, POINT) {
        return None;
    }
    let script = home.write("threads.py", &std::fs::read_to_string(app("share/threads.py")).unwrap());
    let fixture = Fixture { home, port: http::free_port() };
    fixture.start(&format!("{} --interpreter {PYTHON} -i 2", script.display()));
    Some(fixture)
}

/// Checks that present and new workers share the port.
fn all_share(fixture: &Fixture) {
    fixture.home.ok("describe it").says("a queue each");
    fixture.home.ok("reload it");
    fixture.home.ok("scale it 3");
    fixture.online(3);
    assert_eq!(fixture.spread(60).len(), 3);
    fixture.home.ok("scale it 2");
    assert_eq!(fixture.spread(40).len(), 2);
}

#[test]
fn ports_are_shared_and_reloads_lose_nothing() {
    let Some(fixture) = fixture() else { return };
    let mut loads = fixture.loads();
    let before = pids(&fixture.online(2));
    all_share(&fixture);
    kill_god(&fixture.home);
    loads.are_served();
    all_share(&fixture);
    assert!(pids(&fixture.online(2)).iter().all(|pid| !before.contains(pid)));
    loads.leave_content();
    processes_match_list(&fixture.home);
}

#[test]
fn the_http_server_of_python_shares_its_port() {
    let Some(fixture) = fixture() else { return };
    fixture.home.ok("delete it");
    fixture.home.write("index.html", "1\n");
    fixture.start(&format!("{PYTHON} -i 2 --interpreter none -- -m http.server PORT --bind 127.0.0.1"));
    fixture.home.ok("describe it").says("a queue each");
    let loads = fixture.loads();
    fixture.home.ok("reload it");
    assert!(loads.stop().iter().all(|stats| stats.failed.iter().all(|failed| failed.how == "wrong")), "no /work");
}

macro_rules! points {
    ($($name:ident: $point:literal $actions:literal,)*) => { $(
        #[test]
        fn $name() {
            fixture().iter().for_each(|fixture| dies_once_in(fixture, $point, $actions));
        }
    )* };
}

points! {
    god_dies_before_it_records_a_bind_call: "bind-received" "return",
    god_dies_before_it_records_a_listen_call: "bind-received" "1*off->return",
    god_dies_after_it_recorded_a_bind: "bind-noted" "return",
    god_dies_after_it_executed_a_listen: "bind-done" "1*off->return",
}

#[test]
fn a_killed_keeper_loses_no_request() {
    let Some(fixture) = fixture() else { return };
    let mut loads = fixture.loads();
    let (keeper, god) = (fixture.home.daemon_pid(), fixture.home.god_pid());
    processes::signal(keeper, Signal::SIGKILL);
    until("God becomes the keeper", || fixture.home.daemon_pid() == god);
    loads.are_served();
    all_share(&fixture);
    loads.leave_content();
    processes_match_list(&fixture.home);
}

/// Starts a third worker, and waits until its bind is pending because the keeper is suspended. Returns the command.
fn start_another(fixture: &Fixture) -> Running {
    let before = pids(&fixture.online(2));
    let command = fixture.home.pmr(["scale", "it", "3"]).spawn();
    let bind = format!("{} ", nix::libc::SYS_bind);
    let binds =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with(&bind));
    let children = || processes::children(fixture.home.daemon_pid());
    until("a third one binds", || children().into_iter().any(|pid| !before.contains(&pid) && binds(pid)));
    command
}

#[test]
fn a_stopped_keeper_blocks_only_workers_that_bind() {
    let Some(fixture) = fixture() else { return };
    let mut loads = fixture.loads();
    let keeper = fixture.home.daemon_pid();
    processes::freeze(keeper);
    let command = start_another(&fixture);
    let log = || std::fs::read_to_string(fixture.home.root().join("pmr.log")).unwrap();
    until("God reports it", || log().contains("the keeper does not look into a worker that binds"));
    fixture.home.ok("describe it").says("a queue each");
    loads.are_served();
    processes::signal(keeper, Signal::SIGCONT);
    fixture.online(3);
    drop(command);
    assert_eq!(fixture.spread(60).len(), 3);
    loads.leave_content();
    processes_match_list(&fixture.home);
}

#[test]
fn a_keeper_that_dies_during_a_request_is_replaced() {
    let Some(fixture) = fixture() else { return };
    let loads = fixture.loads();
    let (keeper, god) = (fixture.home.daemon_pid(), fixture.home.god_pid());
    processes::freeze(keeper);
    let command = start_another(&fixture);
    processes::signal(keeper, Signal::SIGKILL);
    until("God becomes the keeper", || fixture.home.daemon_pid() == god);
    fixture.online(3);
    drop(command);
    assert_eq!(fixture.spread(60).len(), 3);
    loads.leave_content();
    processes_match_list(&fixture.home);
}
