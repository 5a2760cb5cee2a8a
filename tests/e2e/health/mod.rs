//! Health checks: a worker that passes is ready, one that fails too often is unhealthy, and a release that fails is
//! rolled back.

mod exec;
mod log;
pub mod rotation;

use crate::support::eventually::until;
use crate::support::listing::{Row, pids};
use crate::support::{Home, app, http};

/// Two workers of `health.js` on one port, each checked over a connection of its own.
fn checked(more: &str) -> (Home, u16) {
    let home = Home::new();
    let port = http::free_port();
    config(&home, "good", more);
    home.pmr(["start", "h.config.js"]).env("PORT", port.to_string()).run().ok();
    (home, port)
}

fn config(home: &Home, release: &str, more: &str) {
    let (script, sick) = (app("health.js"), home.work().join("sick"));
    let health = format!("{{ http: '/healthz', interval: 100, timeout: '1m', retries: 2, {more} }}");
    // A short timeout is for sick releases only: a good one may be slow on a busy machine.
    let patience = if release == "sick" { "10s" } else { "100s" };
    let text = format!(
        "module.exports = [{{ name: 'web', script: '{script}', instances: 2, merge_logs: true, listen_timeout: '{patience}', \
         env: {{ RELEASE: '{release}', SICK: '{}' }}, health: {health} }}]",
        sick.display()
    );
    home.write("h.config.js", &text);
}

#[test]
fn a_release_that_fails_its_check_is_rolled_back() {
    let (home, port) = checked("");
    let before = pids(&home.of("web"));
    config(&home, "sick", "");
    home.pmr(["reload", "h.config.js"])
        .env("PORT", port.to_string())
        .run()
        .code(1)
        .complains("status 500; the old process goes on serving")
        .complains("this release is sick");
    assert_eq!(pids(&home.of("web")), before);
    assert!(home.of("web").iter().all(Row::online));
    assert!(http::get(port, "/").is_ok());
}

#[test]
fn each_worker_is_checked_itself_and_the_unhealthy_one_is_replaced() {
    let (home, port) = checked("");
    let before = home.of("web");
    // The worker that gets this request is sick from now on. The port still answers, by the other worker.
    let sick: i32 = http::get(port, "/sicken").unwrap().trim().parse().unwrap();
    let after = home.when("web", "the sick one replaced", |rows| {
        rows.iter().all(|row| row.online() && row.pid != sick) && rows.len() == 2
    });
    let well = before.iter().map(|row| row.pid).find(|pid| *pid != sick).expect("there are two");
    assert!(pids(&after).contains(&well), "the other is not touched: {before:?} {after:?}");
}

#[test]
fn an_unhealthy_worker_with_on_fail_alert_is_shown_and_recovers() {
    let (home, port) = checked("on_fail: 'alert'");
    let sick: i32 = http::get(port, "/").unwrap().trim().parse().unwrap();
    home.write(&format!("sick/{sick}"), "");
    let rows = home.when("web", "one is unhealthy", |rows| rows.iter().any(|row| row.status == "unhealthy"));
    assert!(rows.iter().all(|row| (row.status == "unhealthy") == (row.pid == sick)), "{rows:?}");
    std::fs::remove_file(home.work().join(format!("sick/{sick}"))).unwrap();
    until("healed", || home.of("web").iter().all(Row::online));
    assert!(pids(&home.of("web")).contains(&sick));
}

#[test]
fn a_canary_that_becomes_unhealthy_is_rolled_back() {
    let (home, port) = checked("on_fail: 'none'");
    let before = pids(&home.of("web"));
    config(&home, "wilts", "on_fail: 'none'");
    home.pmr(["reload", "h.config.js", "--canary", "1", "--canary-for", "2m"])
        .env("PORT", port.to_string())
        .run()
        .code(1)
        .complains("unhealthy while it was observed: GET /healthz: status 500");
    assert_eq!(pids(&home.of("web")), before);
}

#[test]
fn a_hanging_check_of_a_fork_mode_process_blocks_nobody() {
    let home = Home::new();
    let port = http::free_port();
    let script = app("health.js");
    let text = format!(
        "module.exports = [{{ name: 'one', script: '{script}', exec_mode: 'fork', listen_timeout: '100s', env: {{ RELEASE: 'good', PORT: '{port}' }}, \
         health: {{ http: 'http://127.0.0.1:{port}/healthz', interval: 100, timeout: 200, retries: 2, on_fail: 'alert' }} }}]"
    );
    home.write("h.config.js", &text);
    home.ok("start h.config.js");
    assert!(http::get(port, "/hang").is_ok());
    home.status("one", "unhealthy");
    let started = home.ok(&format!("start {}", app("tell.sh")));
    assert!(started.took < crate::support::eventually::WAIT_LIMIT / 2, "{:?}", started.took);
    home.ok("describe one").says("no answer in 200 ms");
    home.run(&format!("start {} -x --name two --health /x", app("tell.js"))).refuses("a path alone");
}

#[test]
fn an_impossible_check_is_refused_at_a_change_too() {
    let home = Home::new();
    home.ok(&format!("start {} --name one", app("tell.sh")));
    let pid = home.one("one").pid;
    for words in ["reload one --health /healthz", "restart one --health /healthz"] {
        home.run(words).refuses("a path alone").complains("http://127.0.0.1:PORT/healthz");
    }
    assert_eq!(home.one("one").pid, pid);
    home.ok("restart one --health exec:true");
    home.ok("reload one --health log:instance");
}
