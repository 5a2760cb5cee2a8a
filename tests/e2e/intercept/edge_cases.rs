//! Sockets that are not shared, ports in use, other users, and machines that do not allow interception.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use super::{Fixture, PYTHON, skip, there};
use crate::support::{Home, app, copy_program, eventually, example, http, pmr};

fn odd(words: &str) -> Option<Fixture> {
    there(PYTHON).then(|| Fixture::new(&format!("{} --interpreter {PYTHON} -i 2 {words}", app("share/odd.py"))))?
}

/// The log of two workers, when each has written all its lines.
fn complete_log(fixture: &Fixture) -> String {
    eventually("both have written all lines", || {
        let log = fixture.home.log("it-out.log");
        if log.matches('\n').count() == 4 { Ok(log) } else { Err(log) }
    })
}

#[test]
fn private_sockets_and_unnamed_ports_are_not_shared() {
    let (home, other) = (Home::new(), http::free_port());
    let Some(fixture) =
        there(PYTHON).then_some(home).filter(super::possible).map(|home| Fixture { home, port: http::free_port() })
    else {
        return;
    };
    let script = app("share/odd.py");
    let config = format!(
        r#"{{"apps": [{{"name": "it", "script": "{script}", "interpreter": "{PYTHON}", "instances": 2,
        "listen_timeout": "100s", "cluster": {{"ports": [{port}]}}, "merge_logs": true, "env": {{"PORT": "{port}", "OTHER": "{other}"}}}}]}}"#,
        port = fixture.port
    );
    fixture.home.write("odd.json", &config);
    fixture.home.ok("start odd.json");
    fixture.online(2);
    assert_eq!(fixture.spread(20).len(), 2);
    let log = complete_log(&fixture);
    let count = |line: &str| log.lines().filter(|found| *found == line).count();
    assert_eq!((count("other: mine"), count("other: 98"), count("twice: 98")), (1, 1, 2), "{log}");
}

#[test]
fn all_ports_are_shared_unless_some_are_named() {
    let Some(fixture) = odd("--no-autostart") else { return };
    fixture.home.ok("delete it");
    let other = http::free_port();
    let words = "-n it -i 2 --merge-logs --listen-timeout 100s";
    let line = format!("start {} --interpreter {PYTHON} {words}", app("share/odd.py"));
    let command = fixture.home.pmr(line.split_whitespace());
    command.env("PORT", fixture.port.to_string()).env("OTHER", other.to_string()).run().ok();
    fixture.online(2);
    let log = complete_log(&fixture);
    assert!(!log.contains("other: 98"), "{log}");
}

#[test]
fn the_process_that_has_the_port_is_named() {
    let home = Home::new();
    if !there(PYTHON) || !super::possible(&home) {
        return;
    }
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = foreign.local_addr().unwrap().port();
    let line = format!("start {} --interpreter {PYTHON} -n it -i 1 --no-autorestart", app("share/threads.py"));
    home.pmr(line.split_whitespace()).env("PORT", port.to_string()).run();
    let row = home.status("it", "stopped").remove(0);
    let words = format!("port {port} is in use by pid {}", std::process::id());
    assert!(row.text("reason").contains(&words), "{:?}", row.text("reason"));
    home.daemon_logged(&words);
}

#[test]
fn two_apps_do_not_share_a_port() {
    let Some(fixture) =
        there(PYTHON).then(|| Fixture::new(&format!("{} --interpreter {PYTHON}", app("share/threads.py"))))
    else {
        return;
    };
    let Some(fixture) = fixture else { return };
    fixture.home.ok("delete it");
    fixture.start(&format!("{} --interpreter {PYTHON} -i 2", app("share/threads.py")));
    let words = "-n other -i 2 --no-autorestart --listen-timeout 100s";
    let line = format!("start {} --interpreter {PYTHON} {words}", app("share/loop.py"));
    fixture.home.pmr(line.split_whitespace()).env("PORT", fixture.port.to_string()).run().code(1);
    let others = fixture.home.status("other", "stopped");
    let words = format!("port {} is in use by pid", fixture.port);
    assert!(others.iter().any(|row| row.text("reason").contains(&words)), "{others:?}");
    assert_eq!(fixture.spread(20).len(), 2);
}

#[test]
fn a_placeholder_socket_waits_for_workers_of_another_user() {
    if !nix::unistd::Uid::effective().is_root() {
        skip("not root");
        return;
    }
    let (home, port) = (Home::new(), http::free_port());
    if !there(PYTHON) || !super::possible(&home) {
        return;
    }
    for folder in [home.scratch(), home.work()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = home.write("threads.py", &std::fs::read_to_string(app("share/threads.py")).unwrap());
    home.serve(port, &format!("{} --interpreter {PYTHON} -n it -i 1 --uid 65534", script.display()));
    let fixture = Fixture { home, port };
    let loads = fixture.loads();
    fixture.home.ok("restart it");
    fixture.home.ok("reload it");
    let hows: Vec<String> = loads.stop().into_iter().flat_map(|stats| stats.failed).map(|failed| failed.how).collect();
    assert!(!hows.iter().any(|how| how == "refused" || how == "hung"), "{hows:?}");
}

#[test]
fn a_program_that_never_listens_comes_online() {
    let home = Home::new();
    home.ok(&format!("start {} -n tick -i 2 --listen-timeout 300", example("ticker.sh")));
    assert_eq!(home.status("tick", "online").len(), 2);
    home.ok("reload tick");
    home.ok("describe tick").says("nothing through pmr");
}

#[test]
fn programs_with_reuseport_share_their_port_without_interception() {
    let (home, port) = (Home::new(), http::free_port());
    if !there(PYTHON) {
        return;
    }
    let line = format!("start {} --interpreter {PYTHON} -n it -i 2 --listen-timeout 500", app("share/own.py"));
    let start = home.pmr(line.split_whitespace()).env("PORT", port.to_string());
    start.env("FAILPOINTS", "no-takeover=return").run().ok();
    let fixture = Fixture { home, port };
    fixture.shared_by(2);
    fixture.home.ok("describe it").says("not possible here: disabled by a test");
    let log = fixture.home.daemon_logged("cannot be intercepted here");
    assert_eq!(log.matches("cannot be intercepted here").count(), 1, "{log}");
}

/// Interception without privileges: another balancer, and programs that cannot gain privileges.
#[test]
fn an_ordinary_user_can_share_a_port() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::Uid::effective().is_root() {
        skip("not root: all other tests run as an ordinary user already");
        return;
    }
    if !there(PYTHON) {
        return;
    }
    let (home, port) = (Home::new(), http::free_port());
    for folder in [home.scratch(), home.work()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let binary = home.scratch().join("pmr");
    copy_program(&pmr::binary(), &binary);
    let script = home.write("threads.py", &std::fs::read_to_string(app("share/threads.py")).unwrap());
    let run = |line: &str| -> Output {
        let mut command = Command::new(&binary);
        command.args(line.split_whitespace()).uid(NOBODY).gid(NOBODY).current_dir(home.work());
        command.env("PMR_HOME", home.root()).env("PORT", port.to_string()).output().unwrap()
    };
    let started = run(&format!("start {} --interpreter {PYTHON} -n it -i 2 --listen-timeout 100s", script.display()));
    assert!(started.status.success(), "{started:?}");
    let described = String::from_utf8_lossy(&run("describe it").stdout).into_owned();
    if described.contains("not possible here") {
        skip(&described);
    } else {
        assert!(described.contains("a queue each"), "{described}");
        let fixture = Fixture { home: Home::new(), port };
        let by = fixture.spread(40);
        assert!(by.len() == 2 && by.values().all(|count| *count >= 6), "{by:?}");
        let loads = fixture.loads();
        for _ in 0..2 {
            let reloaded = run("reload it");
            assert!(reloaded.status.success(), "{reloaded:?}");
        }
        loads.leave_content();
    }
    assert!(run("kill").status.success());
}
