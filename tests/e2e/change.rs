//! Restart, delete and scale; changed options and environments; all forms of selectors.

use crate::support::eventually::until;
use crate::support::listing::{Row, ids, pids};
use crate::support::{Home, app, example, http};

#[test]
fn a_restart_gives_a_new_process_with_the_old_settings() {
    let home = Home::new();
    home.pmr(["start", &app("tell.sh"), "--", "x"]).env("COLOUR", "red").run().ok();
    home.logged("tell-out.log", "colour:red");
    let before = home.one("tell");
    home.pmr(["restart", "tell"]).env("COLOUR", "blue").run().ok().says("[tell](0) ✓");
    let after = home.one("tell");
    assert!(after.pid != before.pid && after.restarts == 1 && after.id == before.id);
    until("the second has told its colour", || home.log("tell-out.log").matches("colour:").count() == 2);
    assert!(!home.log("tell-out.log").contains("colour:blue"));
    home.pmr(["restart", "tell", "--update-env"]).env("COLOUR", "blue").run().ok();
    home.logged("tell-out.log", "colour:blue");
    home.pmr(["restart", "tell", "-a", "--", "other", "words"]).run().ok();
    home.logged("tell-out.log", "args:2:other|words");
    home.logged("tell-out.log", "colour:unset");
}

#[test]
fn settings_change_with_a_restart_and_stay_changed() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    home.ok("restart tell --kill-timeout 3s --max-restarts 7 --no-autorestart");
    home.ok("restart tell");
    let row = home.one("tell");
    let settings = ["kill_timeout", "max_restarts"].map(|key| row.env(key).as_u64());
    assert_eq!(settings, [Some(3000), Some(7)]);
    assert_eq!(row.env("autorestart"), false);
    home.run("restart tell -i 4").refuses("pmr scale");
    home.run("restart tell --cwd /").refuses("`cwd`");
    assert_eq!(home.one("tell").pid, row.pid, "a refusal changes nothing");
}

#[test]
fn every_form_of_selector_names_its_processes() {
    let home = Home::new();
    let script = app("tell.sh");
    for (name, namespace) in [("api-a", "web"), ("api-b", "web"), ("7", "jobs"), ("cron", "jobs")] {
        home.ok(&format!("start {script} --name {name} --namespace {namespace}"));
    }
    let stopped = || -> Vec<u64> { ids(&home.list().into_iter().filter(|row| !row.online()).collect::<Vec<_>>()) };
    for (words, expected) in [
        ("api-a", &[0][..]),
        ("1", &[1]),
        ("7", &[2]),
        ("web", &[0, 1]),
        ("/^api-/", &[0, 1]),
        ("/b$|cron/", &[1, 3]),
        ("0 cron jobs", &[0, 2, 3]),
        ("api-a api-a", &[0]),
        ("all", &[0, 1, 2, 3]),
    ] {
        home.ok(&format!("stop {words}"));
        assert_eq!(stopped(), expected, "stop {words}");
        home.ok("start all");
    }
    let stop = home.run(&format!("stop {script}")).ok();
    assert_eq!(stopped(), [0, 1, 2, 3], "the path of the script: {}", stop.transcript());
}

#[test]
fn an_unknown_selector_among_known_ones_changes_nothing() {
    let home = Home::new();
    home.ok(&format!("start {} -n api -i 2 -x", app("tell.sh")));
    let before = home.list();
    for line in ["stop", "restart", "reload", "delete", "reset", "sendSignal TERM", "flush", "describe", "env"] {
        home.run(&format!("{line} api nosuch")).refuses("no process or namespace matches `nosuch`");
    }
    home.run("stop ap").refuses("did you mean api?");
    home.run("stop /nosuch/").refuses("no process or namespace matches `/nosuch/`");
    home.run("stop /(/").refuses("is not a regular expression");
    home.run("stop").refuses("required");
    let after = home.list();
    assert_eq!((pids(&before), after.iter().all(Row::online)), (pids(&after), true));
    home.ok("delete all");
    for line in ["stop", "restart", "reload", "delete"] {
        home.run(&format!("{line} all")).refuses("there are no processes");
    }
}

#[test]
fn deleting_forgets_the_process_and_keeps_its_logs() {
    let home = Home::new();
    home.ok(&format!("start {} -i 2 -x -n a", app("tell.sh")));
    home.ok(&format!("start {} -n b", app("tell.sh")));
    home.logged("a-out-0.log", "args");
    home.ok("del 0");
    assert_eq!(ids(&home.list()), [1, 2]);
    home.ok("delete a b");
    assert!(home.list().is_empty() && home.log("a-out-0.log").contains("args"));
    until("pid files are gone", || std::fs::read_dir(home.root().join("pids")).unwrap().count() == 0);
}

#[test]
fn a_cluster_is_scaled_up_and_down_newest_first() {
    let home = Home::new();
    let port = http::free_port();
    home.serve(port, &format!("{} -n api -i 2", example("http/server.js")));
    let first = home.of("api");
    home.ok("scale api 5");
    assert_eq!(ids(&home.of("api")), [0, 1, 2, 3, 4]);
    assert!(home.of("api").iter().all(Row::online));
    home.ok("scale api -2");
    assert_eq!(ids(&home.of("api")), [0, 1, 2], "the newest go");
    home.ok("scale api +1");
    let four = home.of("api");
    assert_eq!(four.len(), 4);
    let cpus = std::thread::available_parallelism().unwrap().get();
    // More workers than processors, also on a machine with four processors.
    home.ok(&format!("scale api {}", 5.max(cpus + 1)));
    home.ok("scale api max");
    assert_eq!(home.of("api").len(), cpus);
    home.ok("scale api +1");
    home.ok("scale api 1");
    assert_eq!(pids(&home.of("api")), pids(&first[..1]), "the oldest stays, the same process as ever");
    assert!(http::get(port, "/").is_ok());
}

#[test]
fn scaling_works_without_a_cluster_and_refuses_nonsense() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    home.ok("scale tell 8");
    assert_eq!(home.of("tell").len(), 8);
    home.ok("scale tell -5");
    assert_eq!(ids(&home.of("tell")), [0, 1, 2]);
    home.run("scale tell 3").refuses("`tell` has 3 processes already: nothing to do");
    home.run("scale tell 0").refuses("pmr delete tell");
    home.run("scale tell two").refuses("none of N, +N, -N, max");
    home.run("scale tell +0").refuses("changes nothing");
    home.run("scale nosuch 2").refuses("no process or namespace matches");
    home.run("scale tell").refuses("required");
    home.run("scale tell -9").refuses("keeps at least one process");
    assert_eq!(ids(&home.of("tell")), [0, 1, 2]);
    home.ok("scale tell -2");
    assert_eq!(ids(&home.of("tell")), [0]);
}
