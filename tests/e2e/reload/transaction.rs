//! A bad release is rolled back, by all workers or by a canary; `--force` and `--dry-run`.

use std::collections::BTreeSet;

use super::serving;
use crate::support::Home;
use crate::support::eventually::WAIT_LIMIT;
use crate::support::http;
use crate::support::listing::{Row, pids};
use crate::support::processes;

/// The release each process of `gate` was started with.
fn releases(home: &Home) -> Vec<String> {
    home.of("gate").iter().map(|row| row.text("RELEASE").to_owned()).collect()
}

fn config(home: &Home, release: &str, more: &str) {
    let script = crate::support::app("gate.js");
    let env = if release.is_empty() { String::new() } else { format!("env: {{ RELEASE: '{release}' }}, ") };
    let patience = if more.contains("listen_timeout") { "" } else { "listen_timeout: '100s', " };
    let app = format!("{{ name: 'gate', script: '{script}', instances: 2, merge_logs: true, {env}{patience}{more} }}");
    home.write("g.config.js", &format!("module.exports = [{app}]"));
}

#[test]
fn replaced_workers_are_rolled_back_when_a_later_one_fails() {
    let (home, port) = serving("");
    // A release that is good for the first worker and bad for the second.
    let script = crate::support::app("gate.js");
    let picky = home.write(
        "picky.js",
        &format!("if (process.env.NODE_APP_INSTANCE === '1') process.env.RELEASE = 'crash'\nrequire('{script}')\n"),
    );
    let line = |script: &str| {
        let env = format!("env: {{ PORT: {port} }}");
        format!("module.exports = [{{ name: 'gate', script: '{script}', instances: 2, merge_logs: true, {env} }}]")
    };
    home.write("g.config.js", &line(&picky.display().to_string()));
    home.run("reload g.config.js --parallel 1")
        .code(1)
        .complains("[gate](1) ✗ reload: exited with code 7 before it was ready; the old process goes on serving")
        .complains("[gate](0) ✗ reload: rolled back, the previous release serves")
        .complains("this release is broken");
    let rows = home.of("gate");
    assert!(rows.iter().all(Row::online), "{rows:?}");
    let first = rows[0].pid;
    assert!(processes::command_line(first).contains("gate.js"), "{}", processes::command_line(first));
    assert!(http::get(port, "/").is_ok());
}

#[test]
fn a_canary_that_dies_rolls_the_release_back() {
    let (home, port) = serving("");
    let before = pids(&home.of("gate"));
    home.write("release", "short");
    let reload = home.pmr(["reload", "gate", "--canary", "1", "--canary-for", "10m"]).spawn();
    home.when("gate", "a canary beside two that serve", |rows| rows.iter().any(|row| !before.contains(&row.pid)));
    home.write("go", "");
    reload
        .wait(WAIT_LIMIT)
        .code(1)
        .complains("exited with code 9 while it was observed; the old process goes on serving")
        .complains("died of old age")
        .says("1 other process was not touched");
    assert_eq!(pids(&home.of("gate")), before, "the file on the disk was another, and still the old ones serve");
    assert!(http::get(port, "/").is_ok());
}

#[test]
fn a_canary_that_floods_standard_error_is_rolled_back() {
    let (home, port) = serving("");
    let before = pids(&home.of("gate"));
    home.write("release", "noisy");
    home.run("reload gate --canary 1 --canary-for 100s")
        .code(1)
        .complains("lines to standard error while it was observed; the previous release wrote 0 in the same time")
        .complains("something is wrong here");
    assert_eq!(pids(&home.of("gate")), before);
    assert!(http::get(port, "/").is_ok());
}

#[test]
fn a_canary_that_passes_is_followed_by_the_other_workers() {
    let (home, port) = serving("");
    let before = pids(&home.of("gate"));
    let reload = home.pmr(["reload", "gate", "--canary", "50%", "--canary-for", "15s"]).spawn();
    home.when("gate", "a canary beside two that serve", |rows| rows.iter().any(|row| !before.contains(&row.pid)));
    assert!(before.iter().all(|pid| processes::lives(*pid)));
    let answered: BTreeSet<i32> = (0..60).map(|_| http::get(port, "/").unwrap().parse().unwrap()).collect();
    assert_eq!(answered.len(), 3, "three share the port: {answered:?}");
    reload.wait(WAIT_LIMIT).ok().says("[gate](0) ✓").says("[gate](1) ✓");
    assert!(pids(&home.of("gate")).iter().all(|pid| !before.contains(pid)));
}

#[test]
fn a_dry_run_prints_the_plan() {
    let (home, _) = serving("");
    let before = pids(&home.of("gate"));
    home.ok("reload gate --dry-run --parallel 1")
        .says("would be replaced in wave 1")
        .says("would be replaced in wave 2");
    config(&home, "good", "");
    home.ok("reload g.config.js --dry-run --canary 1")
        .says("[gate](0) would be replaced first, as a canary")
        .says("env");
    assert_eq!(pids(&home.of("gate")), before);
    home.run("reload gate --canary-for 5s").refuses("--canary");
    home.run("reload gate --canary 1 --watch 5s").refuses("--canary-for");
    home.run("reload gate --canary 0").refuses("at least 1");
}

#[test]
fn a_forced_reload_goes_on_and_a_paused_one_keeps_the_new_settings() {
    let (home, _) = serving("");
    config(&home, "mute", "listen_timeout: 500");
    home.ok("reload g.config.js --force");
    assert_eq!(releases(&home), ["mute", "mute"], "as was insisted");
    config(&home, "good", "");
    home.ok("reload g.config.js");
    config(&home, "crash", "on_reload_failure: 'pause'");
    home.run("reload g.config.js").code(1);
    assert_eq!(releases(&home), ["crash", "crash"], "the spec stays, the processes serve on");
    assert!(home.of("gate").iter().all(Row::online));
}

#[test]
fn a_process_that_is_alone_gets_its_release_back_when_the_next_ends_at_once() {
    let home = Home::new();
    let script = home.write(
        "alone.sh",
        "[ \"$RELEASE\" = good ] || { echo this release is broken >&2; exit 7; }\nexec sleep 1000\n",
    );
    let config = |release: &str| {
        let env = format!("env: {{ RELEASE: '{release}' }}");
        let app = format!("{{ name: 'alone', script: '{}', min_uptime: '5s', {env} }}", script.display());
        home.write("a.config.js", &format!("module.exports = [{app}]"));
    };
    config("good");
    home.ok("start a.config.js");
    config("bad");
    home.run("reload a.config.js")
        .code(1)
        .complains("[alone](0) ✗ reload: exited with code 7; the previous release was started again")
        .complains("this release is broken");
    let rows = home.of("alone");
    assert!(rows[0].online() && rows[0].text("RELEASE") == "good", "{rows:?}");
    home.ok("reload alone").says("[alone](0) ✓");
}
