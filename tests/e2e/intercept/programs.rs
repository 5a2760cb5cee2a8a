//! Programs in several languages: workers share the port, and reloads lose no request.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::{Fixture, PYTHON, skip, there};
use crate::support::app;
use crate::support::listing::pids;

/// Starts two workers, checks that both share the port, and reloads three times under load.
fn run_scenario(words: &str) {
    let Some(fixture) = Fixture::new(&format!("-i 2 {words}")) else { return };
    let rows = fixture.online(2);
    let by = fixture.spread(40);
    assert!(by.len() == 2 && by.values().all(|count| (5..=35).contains(count)), "{by:?} of {rows:?}");
    fixture.home.ok("describe it").says("a queue each").says("2 workers");
    let mut loads = fixture.loads();
    let mut before = pids(&rows);
    for _ in 0..3 {
        fixture.home.ok("reload it");
        let now = pids(&fixture.online(2));
        assert!(now.iter().all(|pid| !before.contains(pid)), "{before:?} {now:?}");
        before = now;
        loads.are_served();
    }
    loads.leave_content();
}

#[test]
fn python_with_threads_shares_its_port() {
    if there(PYTHON) {
        run_scenario(&format!("{} --interpreter {PYTHON}", app("share/threads.py")));
    }
}

#[test]
fn python_with_an_event_loop_shares_its_port() {
    if there(PYTHON) {
        run_scenario(&format!("{} --interpreter {PYTHON}", app("share/loop.py")));
    }
}

#[test]
fn a_static_go_program_shares_its_port() {
    if let Some(program) = go() {
        run_scenario(&program.display().to_string());
    }
}

#[test]
fn ruby_shares_its_port() {
    if there("/usr/bin/ruby") {
        run_scenario(&format!("{} --interpreter /usr/bin/ruby", app("share/server.rb")));
    }
}

#[test]
fn php_shares_its_port() {
    if there("/usr/bin/php") {
        run_scenario(&format!("/usr/bin/php --interpreter none -- -S 127.0.0.1:PORT {}", app("share/router.php")));
    }
}

#[test]
fn node_started_by_npm_shares_its_port() {
    if !there("/usr/bin/npm") {
        return;
    }
    let Some(fixture) = Fixture::new("true --no-autostart") else { return };
    fixture.home.ok("delete it");
    let script = crate::support::example("node/http.js");
    fixture.home.write("package.json", &format!(r#"{{"scripts": {{"start": "GRACEFUL=no node {script}"}}}}"#));
    fixture.start("/usr/bin/npm -i 2 -- start");
    assert_eq!(fixture.spread(40).len(), 2);
    let loads = fixture.loads();
    fixture.home.ok("reload it");
    loads.leave_content();
}

#[test]
fn the_http_server_of_python_shares_its_port() {
    if !there(PYTHON) {
        return;
    }
    let module = format!("{PYTHON} -i 2 --interpreter none -- -m http.server PORT --bind 127.0.0.1");
    let Some(fixture) = Fixture::new(&module) else { return };
    fixture.home.write("index.html", "1\n");
    let loads = fixture.loads();
    fixture.home.ok("reload it");
    assert!(loads.stop().iter().all(|stats| stats.failed.iter().all(|failed| failed.how == "wrong")), "no /work");
}

/// The path of the Go server, which is built once. `None` without Go.
fn go() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build_go).clone()
}

fn build_go() -> Option<PathBuf> {
    let go = ["/usr/bin/go", "/usr/local/go/bin/go"].into_iter().find(|path| PathBuf::from(path).exists());
    let Some(go) = go else {
        skip("no Go");
        return None;
    };
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("share-go");
    let mut build = Command::new(go);
    build.args(["build", "-o"]).arg(&program).arg(app("share/server.go"));
    build.env("CGO_ENABLED", "0").env("GO111MODULE", "off").env("GOFLAGS", "");
    build.env("GOCACHE", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go-cache"));
    let built = build.output().expect("go can be executed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}
