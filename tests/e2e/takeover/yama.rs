//! Where only a program's ancestors may look into it (Yama, `kernel.yama.ptrace_scope` 1): the keeper looks for God.
//!
//! Few kernels that tests run on have a Yama. So God is told by a point that he is refused whatever takes that right
//! (`descendants-only`, see [`pmr::os::tracer`]), as an ordinary user; a keeper has no such point.

use nix::sys::signal::Signal;

use super::crash::once_in;
use super::{PYTHON, Town, is_possible, there};
use crate::crash::kill_god;
use crate::support::eventually::until;
use crate::support::listing::pids;
use crate::support::order::in_order;
use crate::support::pmr::Running;
use crate::support::{Home, app, http, processes};

const NOBODY: u32 = 65534;
const POINT: &str = "descendants-only=return";

/// Two workers of a server.
fn town() -> Option<Town> {
    let home = if nix::unistd::Uid::effective().is_root() { Home::of_user(NOBODY) } else { Home::new() };
    if !there(PYTHON) || !is_possible(&home, POINT) {
        return None;
    }
    let script = home.write("threads.py", &std::fs::read_to_string(app("share/threads.py")).unwrap());
    let town = Town { home, port: http::free_port() };
    town.start(&format!("{} --interpreter {PYTHON} -i 2", script.display()));
    Some(town)
}

/// The workers share the port, those that are started from now on as well.
fn all_share(town: &Town) {
    town.home.ok("describe it").says("a queue each");
    town.home.ok("reload it");
    town.home.ok("scale it 3");
    town.online(3);
    assert_eq!(town.spread(60).len(), 3);
    town.home.ok("scale it 2");
    assert_eq!(town.spread(40).len(), 2);
}

#[test]
fn ports_are_shared_and_reloads_lose_nothing() {
    let Some(town) = town() else { return };
    let mut loads = town.loads();
    let before = pids(&town.online(2));
    all_share(&town);
    kill_god(&town.home);
    loads.are_served();
    all_share(&town);
    assert!(pids(&town.online(2)).iter().all(|pid| !before.contains(pid)));
    loads.leave_content();
    in_order(&town.home);
}

#[test]
fn pythons_own_server() {
    let Some(town) = town() else { return };
    town.home.ok("delete it");
    town.home.write("index.html", "1\n");
    town.start(&format!("{PYTHON} -i 2 --interpreter none -- -m http.server PORT --bind 127.0.0.1"));
    town.home.ok("describe it").says("a queue each");
    let loads = town.loads();
    town.home.ok("reload it");
    assert!(loads.stop().iter().all(|tally| tally.failed.iter().all(|failed| failed.how == "wrong")), "no /work");
}

macro_rules! points {
    ($($name:ident: $point:literal $actions:literal,)*) => { $(
        #[test]
        fn $name() {
            town().iter().for_each(|town| once_in(town, $point, $actions));
        }
    )* };
}

points! {
    a_first_call_heard_and_not_noted: "bind-received" "return",
    a_second_call_heard_and_not_noted: "bind-received" "1*off->return",
    a_bind_noted: "bind-noted" "return",
    a_listen_done: "bind-done" "1*off->return",
}

#[test]
fn the_keeper_is_killed() {
    let Some(town) = town() else { return };
    let mut loads = town.loads();
    let (keeper, god) = (town.home.daemon_pid(), town.home.god_pid());
    processes::signal(keeper, Signal::SIGKILL);
    until("God takes the keeper's place", || town.home.daemon_pid() == god);
    loads.are_served();
    all_share(&town);
    loads.leave_content();
    in_order(&town.home);
}

/// The command that starts a third worker, which waits to be bound: the keeper does nothing.
fn start_another(town: &Town) -> Running {
    let before = pids(&town.online(2));
    let asked = town.home.pmr(["scale", "it", "3"]).spawn();
    let bind = format!("{} ", nix::libc::SYS_bind);
    let binds =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with(&bind));
    let children = || processes::children(town.home.daemon_pid());
    until("a third one binds", || children().into_iter().any(|pid| !before.contains(&pid) && binds(pid)));
    asked
}

#[test]
fn a_keeper_that_is_stopped_holds_up_nobody_but_who_binds() {
    let Some(town) = town() else { return };
    let mut loads = town.loads();
    let keeper = town.home.daemon_pid();
    processes::freeze(keeper);
    let asked = start_another(&town);
    let log = || std::fs::read_to_string(town.home.root().join("pmr.log")).unwrap();
    until("it is told that it cannot", || log().contains("the keeper does not look into a worker that binds"));
    town.home.ok("describe it").says("a queue each");
    loads.are_served();
    processes::signal(keeper, Signal::SIGCONT);
    town.online(3);
    drop(asked);
    assert_eq!(town.spread(60).len(), 3);
    loads.leave_content();
    in_order(&town.home);
}

#[test]
fn a_keeper_dies_while_he_is_asked() {
    let Some(town) = town() else { return };
    let loads = town.loads();
    let (keeper, god) = (town.home.daemon_pid(), town.home.god_pid());
    processes::freeze(keeper);
    let asked = start_another(&town);
    processes::signal(keeper, Signal::SIGKILL);
    until("God takes the keeper's place", || town.home.daemon_pid() == god);
    town.online(3);
    drop(asked);
    assert_eq!(town.spread(60).len(), 3);
    loads.leave_content();
    in_order(&town.home);
}
