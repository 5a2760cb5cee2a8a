//! Supervision of apps that exit by themselves: restarts, counters, delays, giving up, and what is recorded.

use nix::sys::signal::Signal;

use crate::support::eventually::until;
use crate::support::{Home, app, processes};

#[test]
fn a_crash_loop_ends_as_errored_after_sixteen_unstable_exits() {
    let home = Home::new();
    home.ok(&format!("start {} --min-uptime 1h -- 3", app("crash.sh")));
    let row = &home.status("crash", "errored")[0];
    assert_eq!((row.restarts, row.pid, row.env("exit_code").as_i64()), (15, 0, Some(3)));
    let said = |file: &str, words: &str| home.log(file).matches(words).count();
    until("no output of a fast exit is lost", || {
        (said("crash-error.log", "last words"), said("crash-out.log", "started with code 3")) == (16, 16)
    });
    home.ok("describe crash").says("exited with code 3; given up after 16 unstable restarts").says("code 3");
    home.ok("list").says("errored");
    home.ok("restart crash");
    let row = &home.when("crash", "errored again", |rows| rows[0].status == "errored" && rows[0].restarts > 15)[0];
    assert!(row.restarts >= 30, "a manual restart begins the count anew: {row:?}");
}

#[test]
fn the_number_of_unstable_restarts_can_be_chosen() {
    let home = Home::new();
    home.ok(&format!("start {} --max-restarts 3 --min-uptime 1h", app("crash.sh")));
    assert_eq!(home.status("crash", "errored")[0].restarts, 2);
    home.ok(&format!("start {} -n stable --max-restarts 2 --min-uptime 100ms -- 0.3 1", app("leaver.sh")));
    home.when("stable", "exits later than min-uptime do not count", |rows| rows[0].restarts >= 5 && rows[0].online());
}

#[test]
fn a_clean_exit_is_restarted_unless_the_app_opts_out() {
    let home = Home::new();
    let leaver = app("leaver.sh");
    home.ok(&format!("start {leaver} -n again -- 0.2 0"));
    home.ok(&format!("start {leaver} -n once --no-autorestart -- 0.2 0"));
    home.ok(&format!("start {leaver} -n coded --stop-exit-codes 0,5 -- 0.2 5"));
    home.ok(&format!("start {leaver} -n other --stop-exit-codes 5 --restart-delay 50 -- 0.2 6"));
    let once = &home.status("once", "completed")[0];
    assert_eq!((once.restarts, once.env("exit_code").as_i64()), (0, Some(0)));
    let coded = &home.status("coded", "stopped")[0];
    assert_eq!((coded.restarts, coded.env("exit_code").as_i64()), (0, Some(5)));
    home.when("again", "restarted", |rows| rows[0].restarts >= 2);
    home.when("other", "restarted", |rows| rows[0].restarts >= 2);
    home.run("describe once").ok().says("code 0");
}

#[test]
fn a_restart_can_wait_and_is_shown_waiting() {
    let home = Home::new();
    home.ok(&format!("start {} -n fixed --restart-delay 1h", app("crash.sh")));
    let row = &home.status("fixed", "waiting restart")[0];
    assert_eq!((row.pid, row.env("restart_delay").as_u64()), (0, Some(3_600_000)));
    home.ok("list").says("waiting restart");
    home.ok("stop fixed");
    assert_eq!(home.one("fixed").status, "stopped", "stop beats a restart that waits");
    home.ok(&format!(
        "start {} -n growing --exp-backoff-restart-delay 40ms --max-restarts 5 --min-uptime 1h",
        app("crash.sh")
    ));
    home.status("growing", "errored");
    home.daemon_logged("growing");
    home.ok(&format!("start {} -n slow --restart-delay 1h", app("crash.sh")));
    home.status("slow", "waiting restart");
    home.ok("start slow");
    until("a start does not wait for the delay", || home.log("slow-out.log").matches("started").count() == 2);
}

#[test]
fn an_exit_by_signal_is_recorded_with_the_signal() {
    let home = Home::new();
    home.ok(&format!("start {} --restart-delay 1h", app("tell.sh")));
    home.logged("tell-out.log", "args");
    processes::signal(home.one("tell").pid, Signal::SIGKILL);
    let row = &home.status("tell", "waiting restart")[0];
    assert_eq!(row.env("exit_signal").as_i64(), Some(9));
    home.ok("describe tell").says("signal 9 (SIGKILL)");
}

#[test]
fn a_killed_process_is_replaced_and_counted() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let before = home.one("tell");
    processes::signal(before.pid, Signal::SIGKILL);
    let after = &home.replaced("tell", &[before.pid])[0];
    assert_eq!((after.id, after.restarts), (before.id, 1));
    home.ok("reset tell").says("[tell](0) ✓");
    let reset = home.one("tell");
    assert_eq!((reset.restarts, reset.pid), (0, after.pid));
    home.run("reset nosuch").refuses("no process or namespace matches `nosuch`");
}

#[test]
fn the_restart_limit_holds_after_a_resurrection() {
    let home = Home::new();
    home.write("fragile.sh", "test -f healthy || exit 9; exec sleep 1000");
    home.write("healthy", "");
    home.ok("start fragile.sh --max-restarts 4 --min-uptime 1h");
    home.ok("save");
    home.ok("kill");
    std::fs::remove_file(home.work().join("healthy")).unwrap();
    home.run("resurrect");
    let row = &home.status("fragile", "errored")[0];
    assert_eq!(row.restarts, 3, "as many as before the resurrection");
}

#[test]
fn a_missing_program_is_reported_and_does_not_block_the_daemon() {
    let home = Home::new();
    let script = home.write("gone.sh", "#!/bin/bash\nexec sleep 1000");
    home.ok("start gone.sh --interpreter /bin/bash --max-restarts 2 --min-uptime 1h");
    std::fs::remove_dir_all(home.work()).unwrap();
    let restarted = home.pmr(["restart", "gone"]).within(home.scratch()).run();
    assert!(!script.exists() && restarted.code == Some(1), "{}", restarted.transcript());
    until("it is given up", || home.pmr(["jlist"]).within(home.scratch()).run().out.contains("\"status\":\"errored\""));
    home.pmr(["describe", "gone"]).within(home.scratch()).run().ok().says("reason");
    std::fs::create_dir(home.work()).unwrap();
}
