//! Reload: successors start first, and the old workers go on serving when a new release fails.

mod transaction;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::eventually::until;
use crate::support::listing::{Row, ids, pids};
use crate::support::{Home, app, http};

/// A home with the app `gate` with two workers of a good release, and the port.
pub fn serving(words: &str) -> (Home, u16) {
    let home = Home::new();
    let port = http::free_port();
    home.write("release", "good");
    // Even on a slow machine, a release that crashes at once is within its minimal uptime.
    home.serve(port, &format!("{} -i 2 --merge-logs --min-uptime 1h {words}", app("gate.js")));
    (home, port)
}

#[test]
fn a_stopped_app_releases_its_port_and_an_errored_one_keeps_it() {
    let (home, port) = serving("");
    home.ok("stop 0");
    assert!(http::get(port, "/").is_ok(), "the other worker serves");
    home.ok("stop gate");
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    home.ok("start gate");
    assert!(http::get(port, "/").is_ok());
    home.write("release", "crash");
    home.ok("sendSignal KILL gate");
    home.status("gate", "errored");
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err(), "connections wait for a worker to come");
}

#[test]
fn every_worker_is_replaced_and_the_port_answers_throughout() {
    let (home, port) = serving("");
    let before = home.of("gate");
    home.ok("reload gate").says("[gate](0) ✓").says("[gate](1) ✓");
    let after = home.of("gate");
    assert_eq!(ids(&before), ids(&after));
    assert!(pids(&after).iter().all(|pid| !pids(&before).contains(pid)), "{before:?} {after:?}");
    assert!(after.iter().all(|row| row.online() && row.restarts == 1));
    let answered = http::get(port, "/").unwrap().parse().unwrap();
    assert!(pids(&after).contains(&answered));
    home.ok("reload all --parallel 2");
    assert!(home.of("gate").iter().all(|row| row.restarts == 2));
}

#[test]
fn a_release_that_crashes_is_refused_and_the_old_one_serves_on() {
    let (home, port) = serving("");
    let before = home.of("gate");
    home.write("release", "crash");
    home.run("reload gate --parallel 1")
        .code(1)
        .complains("exited with code 7 before it was ready; the old process goes on serving")
        .complains("this release is broken")
        .says("1 other process was not touched");
    let after = home.of("gate");
    assert_eq!(pids(&before), pids(&after));
    assert!(after.iter().all(Row::online), "{after:?}");
    let since = |row: &Row| row.env("pm_uptime").as_u64().unwrap();
    let same = |row: &Row| since(row).abs_diff(since(&before[row.id as usize])) < 100;
    // The list is read again, because the daemon may be descheduled between its reads of the two clocks.
    home.when("gate", "the uptime is that of the process that serves", |rows| rows.iter().all(same));
    assert!(http::get(port, "/").is_ok());
    home.write("release", "good");
    home.ok("reload gate");
    assert!(pids(&home.of("gate")).iter().all(|pid| !pids(&before).contains(pid)));
}

#[test]
fn a_release_that_never_listens_is_refused_and_the_old_one_serves_on() {
    let (home, port) = serving("");
    let before = home.of("gate");
    home.write("release", "mute");
    let log = home.of("gate")[0].text("pm_err_log_path").to_owned();
    std::fs::write(&log, "words of long ago\n").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&log).unwrap().set_modified(long_ago).unwrap();
    home.run("reload gate --listen-timeout 700")
        .code(1)
        .complains("not ready after")
        .complains("it wrote nothing to")
        .complains("the old process goes on serving");
    assert_eq!(pids(&before), pids(&home.of("gate")));
    assert!(http::get(port, "/").is_ok());
}

#[test]
fn a_release_that_falls_back_to_another_port_is_refused_and_the_old_one_serves_on() {
    let (home, port) = serving("");
    let before = home.of("gate");
    let script = app("gate.js");
    // Without PORT it listens on any free port.
    let line =
        format!("[{{ name: 'gate', script: '{script}', instances: 2, merge_logs: true, listen_timeout: '15s' }}]");
    home.write("g.config.js", &format!("module.exports = {line}"));
    home.run("reload g.config.js --dry-run").code(0).says("changes the environment of the shell (").says("PORT");
    home.run("reload g.config.js")
        .code(1)
        .complains(&format!(", and nothing would listen on [::]:{port}; if that is meant"));
    assert_eq!(pids(&before), pids(&home.of("gate")));
    assert!(http::get(port, "/").is_ok());
    let history = home.ok("history gate").out;
    assert_eq!(
        history.matches("`reload` was requested").count(),
        2,
        "once for each process, and not for the dry run: {history}"
    );
    assert!(
        history.contains("could not be replaced: not ready after") && history.contains("is rolled back"),
        "{history}"
    );
}

#[test]
fn a_worker_that_listens_before_it_is_ready_gets_no_connection() {
    let home = Home::new();
    let port = http::free_port();
    home.write("release", "early");
    home.serve(port, &format!("{} -i 2 --wait-ready", app("gate.js")));
    let over = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) || answers.len() < 50 {
                answers.push(http::get(port, "/"));
            }
            answers
        });
        home.ok("reload gate");
        over.store(true, Ordering::Relaxed);
        client.join().expect("the client asks on")
    });
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), answers.len());
}

#[test]
fn a_stop_beats_a_reload_in_flight() {
    let (home, _) = serving("");
    home.write("release", "mute");
    let reload = home.pmr(["reload", "gate"]).spawn();
    home.logged("gate-out.log", "boot mute");
    home.ok("stop gate");
    let ran = reload.wait(crate::support::eventually::WAIT_LIMIT).code(1);
    assert!(ran.err.contains("a later `stop` took over"), "{}", ran.transcript());
    assert!(home.of("gate").iter().all(|row| row.status == "stopped" && row.pid == 0));
}

#[test]
fn a_reload_takes_new_settings_and_a_config_file() {
    let (home, port) = serving("");
    home.ok("reload gate --kill-timeout 4s -- some args");
    let row = &home.of("gate")[0];
    assert_eq!((row.env("kill_timeout").as_u64(), row.env("args")[0].as_str()), (Some(4000), Some("some")));
    let script = app("gate.js");
    home.write(
        "g.config.js",
        &format!(
            "module.exports = [{{ name: 'gate', script: '{script}', instances: 3, env: {{ SIZE: 'L', PORT: {port} }} }}]"
        ),
    );
    home.ok("reload g.config.js");
    let rows = home.of("gate");
    assert_eq!((rows.len(), rows[0].text("SIZE"), rows.iter().all(Row::online)), (3, "L", true));
    home.ok("reload 0");
    home.run("reload g.config.js --only nosuch").refuses("nosuch");
    home.run("reload gate --parallel 0").refuses("expected a whole number of at least 1");
}

#[test]
fn a_stopped_or_fork_mode_app_is_restarted_by_a_reload() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let before = home.one("tell");
    home.ok("reload tell");
    let after = home.one("tell");
    assert!(after.pid != before.pid && after.restarts == 1);
    home.ok("stop tell");
    home.ok("reload tell");
    assert!(home.one("tell").online());
}
