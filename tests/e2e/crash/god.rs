//! SIGKILL of God.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Fixture, answers, facts, is_unchanged, kill_god};
use crate::reload::serving;
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::listing::{Row, pids};
use crate::support::{Home, app, http, processes};

/// Much longer than a recovery takes, for busy machines.
const SOON: Duration = Duration::from_secs(60);

/// Files of God that may be opened or closed after the first count, because threads of God open the files they write to
/// with the first line. It is far fewer than one for each death.
const OPENED_LATE: usize = 5;

#[test]
fn ten_killed_gods_go_unnoticed() {
    let fixture = Fixture::new();
    let mut loads = fixture.loads();
    let before = fixture.facts();
    let keeper = fixture.home.daemon_pid();
    for _ in 0..10 {
        fixture.kill_god();
        fixture.logs_go_on();
        loads.are_served();
    }
    loads.leave_content();
    is_unchanged(&fixture.home, &before);
    assert_eq!(fixture.home.daemon_pid(), keeper);
}

#[test]
fn a_daemon_with_a_hundred_apps_recovers_quickly() {
    let home = Home::new();
    let script = app("tell.sh");
    home.write("h.json", &format!(r#"{{"apps": [{{"name": "a", "script": "{script}", "instances": 100}}]}}"#));
    home.ok("start h.json");
    assert_eq!(home.list().len(), 100);
    let before = facts(&home);
    let start = Instant::now();
    home.ok("ping");
    let usual = start.elapsed();
    let took = kill_god(&home);
    let _ = writeln!(std::io::stdout(), "100 apps: {took:?} from the kill to an answer, where a ping takes {usual:?}");
    assert!(took < SOON, "{took:?}");
    is_unchanged(&home, &before);
}

#[test]
fn a_recovery_is_published_to_subscribers() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("tell.sh")));
    let listen = || {
        let stream = UnixStream::connect(home.root().join("pub.sock")).expect("the socket is there");
        stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit can be set");
        BufReader::new(stream)
    };
    let mut first = listen();
    home.sync();
    // While God is suspended, a new subscriber waits in the backlog for the next God.
    let god = home.god_pid();
    processes::freeze(god);
    let second = listen();
    processes::signal(god, Signal::SIGKILL);
    let event = second
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("\"recovered\""))
        .expect("the recovery is published");
    let event: serde_json::Value = serde_json::from_str(&event).expect("it is JSON");
    assert_eq!((event["runs"].as_u64(), event["after"]["Signal"].as_u64()), (Some(1), Some(9)), "{event}");
    assert!(event["gap_ms"].is_u64(), "{event}");
    let ended = first.read_to_string(&mut String::new());
    assert!(ended.is_ok(), "a subscriber of the dead God gets the end of the stream: {ended:?}");
}

#[test]
fn a_stop_survives_a_killed_god() {
    let home = Home::new();
    home.ok(&format!("start {} --kill-timeout 10s", app("stubborn.sh")));
    home.logged("stubborn-out.log", "stubborn");
    let pid = home.one("stubborn").pid;
    let stop = home.pmr(["stop", "stubborn"]).spawn();
    home.status("stubborn", "stopping");
    kill_god(&home);
    home.status("stubborn", "stopped");
    until("it is dead", || !processes::lives(pid));
    // The command has lost its connection and cannot know the outcome.
    stop.wait(WAIT_LIMIT).code(1);
    home.ok("start stubborn");
    assert_eq!(home.one("stubborn").status, "online");
}

#[test]
fn a_reload_survives_a_killed_god() {
    let (home, port) = serving("");
    let before = pids(&home.of("gate"));
    home.write("release", "slow");
    let reload = home.pmr(["reload", "gate"]).spawn();
    home.logged("gate-out.log", "boot slow");
    kill_god(&home);
    home.write("go", "");
    home.when("gate", "replaced", |rows| {
        rows.len() == 2 && rows.iter().all(|row| row.online() && !before.contains(&row.pid) && row.restarts == 1)
    });
    until("the old ones are gone", || before.iter().all(|pid| !processes::lives(*pid)));
    reload.wait(WAIT_LIMIT);
    let answered: i32 = http::get(port, "/").expect("it serves").parse().expect("a pid");
    assert!(pids(&home.of("gate")).contains(&answered));
}

#[test]
fn a_scale_survives_a_killed_god() {
    let (home, _) = serving("");
    let before = pids(&home.of("gate"));
    home.write("release", "slow");
    let scale = home.pmr(["scale", "gate", "4"]).spawn();
    home.logged("gate-out.log", "boot slow");
    kill_god(&home);
    home.write("go", "");
    let rows = home.when("gate", "four", |rows| rows.len() == 4 && rows.iter().all(Row::online));
    assert!(before.iter().all(|pid| pids(&rows).contains(pid)) && rows.iter().all(|row| row.restarts == 0));
    scale.wait(WAIT_LIMIT);
}

#[test]
fn an_app_that_dies_without_a_god_is_restarted_once() {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.ok(&format!("start {} -n {name}", app("tell.sh")));
    }
    let god = home.god_pid();
    let untouched = home.one("c").pid;
    let victims = ["a", "b"].map(|name| home.one(name).pid);
    // God is suspended, so that it cannot reap the victims.
    processes::freeze(god);
    victims.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
    processes::signal(god, Signal::SIGKILL);
    for name in ["a", "b"] {
        assert_eq!(home.replaced(name, &victims)[0].restarts, 1);
    }
    assert_eq!(home.one("c").pid, untouched);
    // The next God does not handle these exits again.
    let before = facts(&home);
    kill_god(&home);
    home.sync();
    is_unchanged(&home, &before);
}

#[test]
fn an_errored_or_stopped_app_stays_so_after_a_crash() {
    let home = Home::new();
    home.run(&format!("start {} --min-uptime 1h", app("crash.sh")));
    home.ok(&format!("start {} -n still", app("tell.sh")));
    home.ok("stop still");
    home.status("crash", "errored");
    let before = facts(&home);
    for _ in 0..3 {
        kill_god(&home);
    }
    is_unchanged(&home, &before);
    home.ok("restart still");
    assert_eq!(home.one("still").status, "online");
}

#[test]
fn a_crash_looping_god_leaves_apps_running() {
    let fixture = Fixture::new();
    let before = fixture.facts();
    // The keeper waits longer and longer between two Gods.
    for _ in 0..8 {
        let god = fixture.home.god_pid();
        processes::signal(god, Signal::SIGKILL);
        until("God is dead", || !processes::lives(god));
    }
    answers(&fixture.home);
    is_unchanged(&fixture.home, &before);
    fixture.logs_go_on();
    assert!(http::get(fixture.port, "/").is_ok());
}

#[test]
fn fifty_killed_gods_leak_nothing() {
    let fixture = Fixture::new();
    fixture.home.limit(Duration::from_secs(300));
    let keeper = fixture.home.daemon_pid();
    // The first recovery may open files that the first God did not need.
    fixture.kill_god();
    fixture.logs_go_on();
    let open = || [keeper, fixture.home.god_pid()].map(processes::lasting_files);
    let before = open();
    let memory = processes::resident(keeper);
    for _ in 0..50 {
        fixture.kill_god();
    }
    fixture.logs_go_on();
    crate::support::eventually("no more open files than before", || match open() {
        now if now.iter().zip(before).all(|(now, before)| *now < before + OPENED_LATE) => Ok(()),
        now => Err(format!("{now:?}, not {before:?}: {:?}", processes::open_files(keeper))),
    });
    let grown = processes::resident(keeper).saturating_sub(memory);
    assert!(grown < 2 << 20, "the keeper has grown by {grown} bytes");
    assert_eq!(fixture.home.list().iter().map(|row| row.restarts).sum::<u64>(), 0);
}
