//! `stop`: it takes as long as the app needs and no longer, ends the whole process tree, and stops many apps as fast as
//! one.

use std::time::Duration;

use crate::support::{Home, app, eventually, example, processes};

#[test]
fn a_stop_ends_as_soon_as_the_app_exits() {
    let home = Home::new();
    home.ok(&format!("start {} --kill-timeout 1h", app("usr.sh")));
    home.logged("usr-out.log", "listening");
    home.ok("stop usr").says("[usr](0) ✓");
    assert_eq!(home.one("usr").status, "stopped");
    home.logged("usr-out.log", "got INT");
    home.ok("stop usr");
}

#[test]
fn an_app_that_does_not_exit_is_killed_after_its_kill_timeout() {
    let home = Home::new();
    home.ok(&format!("start {} -k 700", app("stubborn.sh")));
    home.logged("stubborn-out.log", "stubborn");
    let stopped = home.ok("stop stubborn");
    assert!(stopped.took > Duration::from_millis(650), "{:?}", stopped.took);
    let row = home.one("stubborn");
    assert_eq!((row.status.as_str(), row.env("exit_signal").as_i64()), ("stopped", Some(9)));
}

#[test]
fn a_stop_ends_the_whole_process_tree() {
    let home = Home::new();
    home.ok(&format!("start {}", app("forest.sh")));
    home.logged("forest-out.log", "grown");
    let sleepers = || -> Vec<i32> {
        let all = processes::of_home(home.root());
        all.into_iter().filter(|pid| processes::command_line(*pid).starts_with("sleep 100")).collect()
    };
    eventually("the tree has five leaves", || match sleepers().len() {
        5 => Ok(()),
        other => Err(format!("{other}")),
    });
    home.ok("stop forest");
    assert_eq!(sleepers(), [] as [i32; 0], "when the command has ended, all are gone");
    home.ok("start forest");
    eventually("it grows again", || if sleepers().len() == 5 { Ok(()) } else { Err(String::new()) });
    home.ok("delete forest");
    assert_eq!(sleepers(), [] as [i32; 0]);
    eventually("no zombie is left", || if home.children().is_empty() { Ok(()) } else { Err(String::new()) });
}

#[test]
fn fifty_processes_stop_as_fast_as_one() {
    let home = Home::new();
    home.ok(&format!("start {} -n one -k 1000", app("stubborn.sh")));
    home.logged("one-out.log", "stubborn");
    home.ok(&format!("start {} -n many -i 50 -k 1000 --merge-logs", app("stubborn.sh")));
    eventually("all fifty ignore signals", || match home.log("many-out.log").matches("stubborn").count() {
        50 => Ok(()),
        other => Err(other.to_string()),
    });
    let one = home.ok("stop one").took;
    let many = home.ok("stop many").took;
    assert!(many < one + Duration::from_secs(30), "one: {one:?}, fifty: {many:?}; in turn it would be 50 s");
    assert!(home.of("many").iter().all(|row| row.status == "stopped"));
}

#[test]
fn a_suspended_app_can_be_stopped() {
    let home = Home::new();
    home.ok(&format!("start {} -k 500", example("ticker.sh")));
    let pid = home.one("ticker").pid;
    processes::freeze(pid);
    home.ok("stop ticker");
    assert!(!processes::lives(pid));
    assert_eq!(home.one("ticker").status, "stopped");
}

#[test]
fn a_message_can_replace_the_stop_signal() {
    let home = Home::new();
    home.write("app.js", "process.on('message', m => { console.log('told:' + m); process.exit(0) }); process.on('SIGINT', () => console.log('signalled')); console.log('up')");
    home.ok("start app.js --shutdown-with-message --kill-timeout 1h");
    home.logged("app-out.log", "up");
    home.ok("stop app");
    let log = home.logged("app-out.log", "told:shutdown");
    assert!(!log.contains("signalled"), "{log}");
}

#[test]
fn an_app_without_treekill_leaves_no_process_behind() {
    let home = Home::new();
    home.ok(&format!("start {} --no-treekill -k 500", app("forest.sh")));
    home.logged("forest-out.log", "grown");
    home.ok("delete forest");
    assert_eq!(left(&home), [] as [String; 0]);
}

#[test]
fn a_program_that_daemonizes_leaves_no_process_behind() {
    const PYTHON: &str = "/usr/bin/python3";
    if !std::path::Path::new(PYTHON).exists() {
        return;
    }
    let home = Home::new();
    for _ in 0..3 {
        home.run(&format!("start {} --interpreter {PYTHON} --no-autorestart -k 300", app("daemon.py")));
        home.status("daemon", "completed");
        assert_eq!(left(&home), [] as [String; 0]);
        home.ok("delete daemon");
    }
}

/// Command lines of all processes of the home, except the daemon's.
fn left(home: &Home) -> Vec<String> {
    let all = processes::of_home(home.root()).into_iter();
    let others = all.filter(|pid| ![home.daemon_pid(), home.god_pid()].contains(pid));
    others.map(processes::command_line).collect()
}

#[test]
fn the_daemon_reaps_every_orphan() {
    let home = Home::new();
    home.write("parent.sh", "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; echo done; exec sleep 1000");
    home.ok("start parent.sh");
    home.logged("parent-out.log", "done");
    let pid = home.one("parent").pid;
    eventually("only the app itself is left below the daemon", || {
        let children = home.children();
        if children == [pid] { Ok(()) } else { Err(format!("{children:?}")) }
    });
}
