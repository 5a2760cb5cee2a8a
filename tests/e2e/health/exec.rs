//! Health checks by command: their environment, how they end, and that they cannot harm anything else.

use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::crash::kill_god;
use crate::load::{Kind, Load, Mode};
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::listing::pids;
use crate::support::pmr::Ran;
use crate::support::{Home, app, eventually, http, processes};

/// Starts a shell command as the app `it` with this health check.
fn start(home: &Home, line: &str, health: &Value, more: &Value) -> Ran {
    let mut it = json!({ "name": "it", "script": line, "health": health, "listen_timeout": 100_000 });
    it.as_object_mut().expect("an app").extend(more.as_object().expect("its settings").clone());
    home.write("it.json", &json!({ "apps": [it] }).to_string());
    home.run("start it.json")
}

/// Waits until the last check of `it` failed for this reason.
fn fails(home: &Home, how: &str) {
    eventually(how, || {
        let described = home.run("describe it").out;
        if described.contains(how) { Ok(()) } else { Err(described) }
    });
}

/// Processes of the home that are checks or were started by checks.
fn checks(home: &Home) -> Vec<i32> {
    let is_check = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"PMR_CHECK="))
    };
    processes::of_home(home.root()).into_iter().filter(is_check).collect()
}

#[test]
fn a_check_runs_in_the_environment_of_its_worker() {
    let home = Home::new();
    let check = "env > env.txt; pwd > pwd.txt; readlink /proc/self/fd/0 > stdin.txt; ls /proc/self/fd > fds.txt; \
                 kill -0 $PMR_PID";
    // The check runs once: the next one would write the files again.
    let health = json!({ "exec": check, "interval": "1h", "timeout": "1m" });
    start(&home, "exec sleep 300", &health, &json!({ "env": { "MINE": "yes" }, "wait_ready": true })).ok();
    let row = home.one("it");
    let read = |name: &str| fs::read_to_string(home.work().join(name)).expect("the check wrote it");
    let env = read("env.txt");
    let has = |entry: &str| env.lines().any(|line| line == entry);
    for entry in ["MINE=yes", "name=it", "pm_id=0", "NODE_APP_INSTANCE=0", &format!("PMR_PID={}", row.pid)] {
        assert!(has(entry), "no {entry} in\n{env}");
    }
    for of_the_worker_alone in ["NODE_CHANNEL_FD=", "NOTIFY_SOCKET=", "PMR_RUN="] {
        assert!(!env.contains(of_the_worker_alone), "{env}");
    }
    assert_eq!(read("pwd.txt").trim(), home.work().display().to_string());
    assert_eq!(read("stdin.txt").trim(), "/dev/null");
    // `ls` itself has the folder that it lists open as 3.
    assert_eq!(read("fds.txt").split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn a_check_without_a_shell_is_reported_with_its_last_output() {
    let home = Home::new();
    home.write("a file", "");
    let health =
        json!({ "exec": ["cat", "a file"], "interval": 50, "timeout": "1m", "retries": 2, "on_fail": "alert" });
    start(&home, "exec sleep 300", &health, &json!({})).ok();
    let pid = home.one("it").pid;
    fs::remove_file(home.work().join("a file")).unwrap();
    home.status("it", "unhealthy");
    home.ok("describe it").says("`cat a file` exited with code 1: cat: ").says("No such file or directory");
    home.write("a file", "");
    home.status("it", "online");
    assert_eq!(home.one("it").pid, pid, "an alert replaces no process");
    // With `on_fail: restart` the worker is replaced.
    home.ok("restart it");
    let path = home.work().join("it.json");
    let text = fs::read_to_string(&path).unwrap().replace("alert", "restart");
    fs::write(&path, text).unwrap();
    home.ok("reload it.json");
    let pid = home.one("it").pid;
    fs::remove_file(home.work().join("a file")).unwrap();
    home.when("it", "replaced", |rows| rows[0].pid != pid && rows[0].pid != 0);
}

#[test]
fn a_missing_check_program_is_reported() {
    let home = Home::new();
    let never = json!({ "listen_timeout": 5000 });
    start(&home, "exec sleep 300", &json!({ "exec": ["no-such-program", "-q"] }), &never)
        .refuses("`no-such-program -q` is not in the app's PATH");
}

#[test]
fn a_check_that_hangs_is_killed_with_its_children() {
    let home = Home::new();
    let check = "setsid sleep 3001 & sleep 3002 & echo waiting for it; sleep 3003";
    let health = json!({ "exec": check, "interval": 50, "timeout": 300 });
    start(&home, "exec sleep 300", &health, &json!({ "listen_timeout": 2000 })).code(1);
    fails(&home, "did not end in 300 ms");
    until("each check before the present one left nothing behind", || checks(&home).len() <= 4);
    until("a check is under way", || !checks(&home).is_empty());
    home.ok("stop it");
    until("nothing is left of the checks", || checks(&home).is_empty());
}

#[test]
fn the_children_of_a_check_end_with_it() {
    let home = Home::new();
    let health = json!({ "exec": "sleep 3004 & exit 0", "interval": 50 });
    start(&home, "exec sleep 300", &health, &json!({})).ok();
    home.ok("stop it");
    until("nothing is left of the checks", || checks(&home).is_empty());
}

#[test]
fn a_check_with_much_output_is_read_to_its_end_in_bounded_memory() {
    let home = Home::new();
    let check = "yes | head -c 300000; test -e well || { echo last words; exit 3; }";
    let health = json!({ "exec": check, "interval": 50, "timeout": "1m", "retries": 1, "on_fail": "alert" });
    home.write("well", "");
    start(&home, "exec sleep 300", &health, &json!({})).ok();
    fs::remove_file(home.work().join("well")).unwrap();
    fails(&home, "exited with code 3: last words");
    home.ok("delete it");

    let health = json!({ "exec": "yes", "interval": 50, "timeout": 1000 });
    let before = processes::resident(home.god_pid());
    start(&home, "exec sleep 300", &health, &json!({ "listen_timeout": 1500 })).code(1);
    fails(&home, "`yes` did not end in 1000 ms");
    let grown = processes::resident(home.god_pid()).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
}

#[test]
fn a_check_ends_with_its_worker() {
    let home = Home::new();
    let health = json!({ "exec": "test -e hang || exit 0; exec sleep 3005", "interval": 50, "timeout": 100_000 });
    start(&home, "exec sleep 300", &health, &json!({ "autorestart": false })).ok();
    home.write("hang", "");
    let hangs = |pid: &i32| processes::command_line(*pid) == "sleep 3005";
    until("a check hangs", || checks(&home).iter().any(hangs));
    processes::signal(home.one("it").pid, Signal::SIGKILL);
    home.status("it", "stopped");
    until("it is gone", || checks(&home).is_empty());
}

#[test]
fn a_check_ends_with_its_god_and_the_next_god_checks_again() {
    let home = Home::new();
    let check = "test -e pass && exit 0; sleep 3006 & sleep 3007 & sleep 3008";
    let health = json!({ "exec": check, "interval": 50, "timeout": 100_000 });
    home.write(
        "it.json",
        &json!({ "apps": [{ "name": "it", "script": "exec sleep 300", "health": health,
        "listen_timeout": 100_000 }] })
        .to_string(),
    );
    let start = home.pmr(["start", "it.json"]).spawn();
    let of_first = eventually("the check and what it started are there", || match checks(&home) {
        all if all.len() == 4 => Ok(all),
        other => Err(format!("{other:?}")),
    });
    let pid = home.one("it").pid;
    home.write("pass", "");
    kill_god(&home);
    start.wait(WAIT_LIMIT);
    until("they are gone", || of_first.iter().all(|pid| !processes::lives(*pid)));
    assert_eq!(home.status("it", "online")[0].pid, pid, "the worker ran on");
    eventually("the keeper has no other child, dead or alive", || match home.children() {
        children if children == [pid] => Ok(()),
        children => Err(format!("{children:?}")),
    });
}

#[test]
fn a_check_has_the_user_and_the_confinement_of_its_worker() {
    let home = Home::new();
    if !nix::unistd::Uid::effective().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: it takes root to run apps as others");
        return;
    }
    let line = "touch /tmp/pmr-check; exec sleep 300";
    let check = "test \"$(id -un) $HOME\" = \"nobody $WANTED_HOME\" && test -O /tmp/pmr-check && \
                 grep -q 'NoNewPrivs:.1' /proc/self/status && test \"$(ulimit -n)\" = 77 && ! touch /usr/x";
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let more = json!({ "cwd": "/", "uid": "nobody", "no_new_privs": true, "private_tmp": true, "nofile": 77,
        "read_only_paths": ["/usr"], "env": { "WANTED_HOME": nobody.dir } });
    let ran = start(&home, line, &json!({ "exec": check, "timeout": "1m" }), &more);
    if ran.err.contains("making a mount namespace") {
        let _ = writeln!(std::io::stderr(), "skipped: no mount namespaces here");
        return;
    }
    ran.ok();
    assert!(!std::path::Path::new("/tmp/pmr-check").exists());
}

/// A cluster with two workers of a good release and a health check by command.
struct Web {
    home: Home,
    port: u16,
    script: String,
}

impl Web {
    fn new(script: String) -> Web {
        let web = Web { home: Home::new(), port: http::free_port(), script };
        web.write("good");
        web.home.ok("start web.json");
        web
    }

    fn write(&self, release: &str) {
        let check = "test \"$RELEASE\" != sick || { echo this release is sick >&2; exit 4; }";
        // A short timeout is for sick releases only: a good one may be slow on a busy machine.
        let patience = if release == "sick" { 10_000 } else { 100_000 };
        let web = json!({ "name": "web", "script": self.script, "instances": 2, "listen_timeout": patience,
            "drain_timeout": "100s", "health": { "exec": check, "timeout": "1m" },
            "env": { "RELEASE": release, "PORT": self.port.to_string() } });
        self.home.write("web.json", &json!({ "apps": [web] }).to_string());
    }

    /// Reloads to a good release, which loses no request, and to a sick one, which is rolled back.
    fn reload_good_then_sick(&self, kind: Mode) {
        let mut load = self.load(kind);
        let before = pids(&self.home.of("web"));
        self.write("better");
        self.home.ok("reload web.json");
        let better = self.home.of("web");
        assert!(better.iter().all(|row| row.online() && !before.contains(&row.pid)), "{better:?}");
        let answered = load.stats().answered;
        load.until("they are served", |stats| stats.answered > answered + 20);
        let stats = load.stop();
        assert!(stats.failed.is_empty(), "of {} requests failed {:?}", stats.answered, stats.failed);
        self.write("sick");
        self.home
            .run("reload web.json")
            .code(1)
            .complains("exited with code 4: this release is sick; the old process goes on serving");
        let after = self.home.of("web");
        assert_eq!(pids(&after), pids(&better));
        assert!(after.iter().all(|row| row.online() && row.text("RELEASE") == "better"), "{after:?}");
        let stats = self.load(kind).stop();
        assert!(stats.by.keys().all(|pid| pids(&better).contains(pid)), "they serve on: {stats:?}");
    }

    /// Starts the load and waits for the first answers.
    fn load(&self, kind: Mode) -> Load {
        let mut load = Load::start(Kind::Http, kind, self.port, 4);
        load.until("it answers", |stats| stats.answered > 20);
        load
    }
}

#[test]
fn a_sick_node_release_is_rolled_back() {
    Web::new(app("health.js")).reload_good_then_sick(Mode::Keep);
}

#[test]
fn a_sick_python_release_is_rolled_back() {
    let web = Web::new(app("share/threads.py"));
    if web.home.ok("describe web").out.contains("not possible here") {
        let _ = writeln!(std::io::stderr(), "skipped: binds cannot be intercepted here");
        return;
    }
    web.reload_good_then_sick(Mode::New);
}
