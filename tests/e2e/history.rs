//! `history` and `explain`: events are recorded, printed and explained.

use serde_json::Value;

use crate::support::eventually::until;
use crate::support::{Home, eventually, example};

/// The events of the history in JSON.
fn events(home: &Home, line: &str) -> Vec<Value> {
    home.ok(line).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names<'a>(events: &'a [Value], name: &str) -> Vec<&'a str> {
    let about = events.iter().filter(|event| event["process"]["name"] == name);
    about.map(|event| event["event"].as_str().unwrap()).collect()
}

#[test]
fn the_history_of_an_app_outlives_the_app_and_the_daemon() {
    let home = Home::new();
    home.ok(&format!("start {} -n tick -- --token hush", example("ticker.sh")));
    home.ok("stop tick");
    home.ok("delete tick");
    home.ok("kill");
    let found = events(&home, "history tick --json");
    let kinds = names(&found, "tick");
    for kind in ["created", "started", "online", "asked", "stopping", "exited", "stopped", "deleted"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let verbs: Vec<&Value> =
        found.iter().filter(|event| event["event"] == "asked").map(|event| &event["verb"]).collect();
    assert_eq!(verbs, ["start", "stop", "delete"]);
    let command = found.iter().find(|event| event["verb"] == "start").unwrap()["by"]["command"].as_str().unwrap();
    assert!(command.ends_with("-- --token [redacted]"), "{command}");
    assert!(home.ok("history tick --show-secrets").out.contains("--token hush"));
    let text = home.ok("history tick --lines 1").out;
    assert!(text.trim_end().ends_with("the daemon shuts down"), "{text}");
    let missing = home.pmr(["history", "nobody"]).run().code(1);
    assert!(missing.err.contains("there are no events of `nobody`"), "{}", missing.err);
}

#[test]
fn a_stopped_and_a_crashed_app_are_explained() {
    let home = Home::new();
    let crash = home.work().join("crash.sh");
    std::fs::write(&crash, "echo no database >&2; exit 78").unwrap();
    home.ok(&format!("start {} -n crash --no-autorestart", crash.display()));
    home.ok(&format!("start {} -n tick", example("ticker.sh")));
    home.ok("stop tick");
    home.status("crash", "stopped");
    until("the last is written down", || home.run("history crash").out.contains("78"));
    home.logged("crash-error.log", "no database\n");
    let page = home.ok("explain crash").out;
    assert!(page.contains("code 78 usually means: its configuration is wrong"), "{page}");
    assert!(page.contains("  no database\n"), "{page}");
    eventually("the page names who stopped the app", || {
        let page = home.ok("explain tick").out;
        let is_complete = page.contains("why: `stop` was requested by ") && page.contains(" stop tick");
        if is_complete { Ok(()) } else { Err(page) }
    });
    home.pmr(["explain", "nobody"]).run().code(1);
}
