//! Dependencies between apps: the order in which they start, reload and stop, as the apps record it.

use std::path::Path;

use crate::crash::kill_god;
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::{Home, app, eventually};

/// Writes a config file with these apps, in this order: name and further settings.
fn config(home: &Home, apps: &[(&str, &str)]) {
    let step = app("step.sh");
    let one = |(name, more): &(&str, &str)| {
        format!(
            "{{name: '{name}', script: '{step}', args: '{name}', wait_ready: true, listen_timeout: '100s', \
             kill_timeout: '100s', {more}}}"
        )
    };
    let apps: Vec<String> = apps.iter().map(one).collect();
    home.write("eco.config.js", &format!("module.exports = {{apps: [{}]}}", apps.join(",\n")));
}

const JOB: &str = "autorestart: false, wait_ready: false, env: {DONE: '1'}";

/// Writes the config of a shop: the api needs a database that is ready and a migration that is done. The file lists
/// them in the wrong order.
fn shop(home: &Home) {
    config(
        home,
        &[
            ("api", "depends_on: {db: 'ready', migrate: 'completed'}"),
            ("migrate", &format!("depends_on: ['db'], {JOB}")),
            ("db", ""),
        ],
    );
}

fn events(home: &Home) -> Vec<String> {
    let text = std::fs::read_to_string(home.work().join("events")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_for_event(home: &Home, line: &str) {
    eventually(&format!("{line:?} among the events"), || {
        let events = events(home);
        if events.iter().any(|other| other == line) { Ok(()) } else { Err(events.join("\n")) }
    });
}

fn clear_events(home: &Home) {
    std::fs::remove_file(home.work().join("events")).expect("there are events");
}

fn allow(home: &Home, name: &str) {
    home.write(&format!("{name}-go"), "");
}

fn allow_all(home: &Home) {
    for name in ["db", "migrate", "api"] {
        allow(home, name);
    }
}

/// The shop with all apps online.
fn open_shop() -> Home {
    let home = Home::new();
    shop(&home);
    allow_all(&home);
    home.ok("start eco.config.js");
    home
}

const START_EVENTS: [&str; 6] =
    ["db begins", "db is ready", "migrate begins", "migrate is ready", "api begins", "api is ready"];

#[test]
fn an_app_starts_after_its_dependencies() {
    let home = Home::new();
    shop(&home);
    let start = home.pmr(["start", "eco.config.js"]).spawn();
    wait_for_event(&home, "db begins");
    assert_eq!(home.status("api", "waiting")[0].pid, 0);
    home.ok("describe api").says("waits for `db` to be ready");
    home.ok("explain migrate").says("why: waits for `db` to be ready");
    allow(&home, "db");
    wait_for_event(&home, "migrate begins");
    home.when("api", "waits for the next", |_| home.ok("describe api").out.contains("waits for `migrate` to complete"));
    allow(&home, "migrate");
    wait_for_event(&home, "api begins");
    allow(&home, "api");
    start.wait(WAIT_LIMIT).ok();
    assert_eq!(events(&home), START_EVENTS);
    assert_eq!(home.one("migrate").status, "completed");
    assert!(home.one("api").online() && home.one("db").online());
    home.ok("list").says("completed");
    until("it is in the history", || home.run("history api").out.contains("waits for `migrate` to complete"));
}

#[test]
fn apps_stop_in_reverse_order_and_start_again() {
    let home = open_shop();
    clear_events(&home);
    home.ok("stop all");
    assert_eq!(events(&home), ["api ends", "db ends"]);
    assert_eq!(home.one("migrate").status, "stopped");
    clear_events(&home);
    home.ok("start api").says("`db` was started as well: `api` depends on it").says("`migrate` was started as well");
    assert_eq!(events(&home), START_EVENTS);
    home.ok("stop db").says("`api` depends on `db` and runs on");
    assert!(home.one("api").online());
    home.ok("start db");
    clear_events(&home);
    home.ok("kill");
    assert_eq!(events(&home), ["api ends", "db ends"]);
}

#[test]
fn apps_are_reloaded_in_order() {
    let home = open_shop();
    clear_events(&home);
    home.ok("reload api db");
    let lines = ["db ends", "db begins", "db is ready", "api ends", "api begins", "api is ready"];
    assert_eq!(events(&home), lines, "the migration is done");
    home.ok("reload all --dry-run").says("one after another, as they depend on each other: `db`, `migrate`, `api`");
}

#[test]
fn a_circle_or_an_unknown_dependency_starts_nothing() {
    let home = Home::new();
    config(&home, &[("api", "depends_on: ['db']"), ("db", "depends_on: {api: 'started'}")]);
    home.run("start eco.config.js").refuses("the apps depend on each other in a circle: api → db → api");
    assert!(home.list().is_empty());
    home.run(&format!("start {} -n api --depends-on db", app("step.sh")))
        .refuses("`api` depends on `db`, which is not known: start both from one config file, or `db` first");
    home.run(&format!("start {} -n api --depends-on db:redy", app("step.sh"))).refuses("db:healthy");
    home.run(&format!("start {} -n api --depends-on api", app("step.sh"))).refuses("`api` cannot depend on itself");
    config(&home, &[("api", "depends_on: {db: 'helthy'}"), ("db", "")]);
    home.run("start eco.config.js").refuses("depends_on").complains("eco.config.js");
    config(&home, &[("api", "depends_on: {db: 'healthy'}"), ("db", "")]);
    home.run("start eco.config.js").refuses("`db` has no `health` check: add one, or wait for it to be `ready`");
    allow_all(&home);
    config(&home, &[("db", "")]);
    home.ok("start eco.config.js");
    home.ok(&format!("start {} -n api --depends-on db:started -- api", app("step.sh")));
    home.run("restart db --depends-on api").refuses("db → api → db");
    assert!(!Path::new("events").exists());
}

#[test]
fn a_dependency_that_fails_is_named() {
    let home = Home::new();
    let fails = JOB.replace("DONE: '1'", "FAIL: '3'");
    config(&home, &[("api", "depends_on: {migrate: 'completed'}"), ("migrate", &fails)]);
    home.run("start eco.config.js").code(1).complains("`migrate`, on which it depends, exited with code 3");
    assert_eq!(home.one("api").status, "errored");
    assert_eq!(events(&home), ["migrate begins"]);
    home.ok("explain api").says("`migrate`, on which it depends, exited with code 3");
}

#[test]
fn an_app_still_waits_for_its_dependencies_after_a_crash() {
    let home = Home::new();
    shop(&home);
    let start = home.pmr(["start", "eco.config.js"]).spawn();
    wait_for_event(&home, "db begins");
    home.status("api", "waiting");
    kill_god(&home);
    assert_eq!(home.status("api", "waiting")[0].pid, 0);
    allow_all(&home);
    wait_for_event(&home, "api is ready");
    assert_eq!(events(&home), START_EVENTS);
    start.wait(WAIT_LIMIT).code(1);
    home.status("migrate", "completed");
    kill_god(&home);
    assert_eq!(home.one("migrate").status, "completed");
    home.ok("restart api");
    assert_eq!(events(&home).iter().filter(|line| *line == "migrate begins").count(), 1, "it is done");
}

#[test]
fn resurrected_apps_start_in_order() {
    let home = open_shop();
    home.ok("kill");
    clear_events(&home);
    std::fs::remove_file(home.work().join("db-go")).expect("it is there");
    let back = home.pmr(["resurrect"]).spawn();
    wait_for_event(&home, "db begins");
    home.status("api", "waiting");
    allow(&home, "db");
    back.wait(WAIT_LIMIT).ok();
    until("all are up", || home.one("api").online());
    assert_eq!(events(&home), START_EVENTS, "the job is done again: it is another boot");
}

#[test]
fn a_failed_reload_leaves_dependent_apps_alone() {
    let home = Home::new();
    let script = app("gate.js");
    let one = |name: &str, more: &str| {
        format!("{{name: '{name}', script: '{script}', instances: 1, listen_timeout: '60s', {more}}}")
    };
    let (db, api) = (one("db", ""), one("api", "depends_on: ['db'], env: {RELEASE: 'good'}"));
    home.write("eco.config.js", &format!("module.exports = {{apps: [{db}, {api}]}}"));
    home.write("release", "good");
    home.ok("start eco.config.js");
    let (db, api) = (home.one("db").pid, home.one("api").pid);
    home.write("release", "crash");
    let left = "reload: not reloaded, because the reload of `db` failed; the old process goes on serving";
    home.run("reload all").code(1).complains("exited with code 7 before it was ready").complains(left);
    assert_eq!((home.one("db").pid, home.one("api").pid), (db, api));
    home.run("reload all --force").code(1);
    assert_eq!(home.one("db").pid, db);
    assert_ne!(home.one("api").pid, api);
}

#[test]
fn a_stopped_dependency_is_not_started_by_a_resurrection() {
    let home = open_shop();
    home.ok("stop db");
    home.ok("kill");
    clear_events(&home);
    home.ok("resurrect");
    assert_eq!(events(&home), ["api begins", "api is ready"], "the migration would need the database");
    assert!(home.one("api").online());
    assert_eq!(home.one("db").status, "stopped");
    home.ok("restart api").says("`db` was started as well: `api` depends on it");
    assert!(home.one("db").online());
}
