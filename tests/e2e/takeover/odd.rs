//! What is not shared, who has a port already, other users, and machines where none of this is allowed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use super::{PYTHON, Town, skip, there};
use crate::support::{Home, app, copy_program, eventually, example, http, pmr};

fn odd(words: &str) -> Option<Town> {
    there(PYTHON).then(|| Town::new(&format!("{} --interpreter {PYTHON} -i 2 {words}", app("share/odd.py"))))?
}

/// What two workers of it have written, when each has come to its end.
fn has_said_all(town: &Town) -> String {
    eventually("both have said all", || {
        let log = town.home.log("it-out.log");
        if log.matches('\n').count() == 4 { Ok(log) } else { Err(log) }
    })
}

#[test]
fn private_sockets_stay_private_and_a_port_that_is_not_named_is_the_first_ones() {
    let (home, other) = (Home::new(), http::free_port());
    let Some(town) =
        there(PYTHON).then_some(home).filter(super::possible).map(|home| Town { home, port: http::free_port() })
    else {
        return;
    };
    let script = app("share/odd.py");
    let config = format!(
        r#"{{"apps": [{{"name": "it", "script": "{script}", "interpreter": "{PYTHON}", "instances": 2,
        "listen_timeout": "100s", "cluster": {{"ports": [{port}]}}, "merge_logs": true, "env": {{"PORT": "{port}", "OTHER": "{other}"}}}}]}}"#,
        port = town.port
    );
    town.home.write("odd.json", &config);
    town.home.ok("start odd.json");
    town.online(2);
    assert_eq!(town.spread(20).len(), 2);
    let log = has_said_all(&town);
    let count = |line: &str| log.lines().filter(|found| *found == line).count();
    assert_eq!((count("other: mine"), count("other: 98"), count("twice: 98")), (1, 1, 2), "{log}");
}

#[test]
fn all_ports_are_shared_unless_some_are_named() {
    let Some(town) = odd("--no-autostart") else { return };
    town.home.ok("delete it");
    let other = http::free_port();
    let words = "-n it -i 2 --merge-logs --listen-timeout 100s";
    let line = format!("start {} --interpreter {PYTHON} {words}", app("share/odd.py"));
    let command = town.home.pmr(line.split_whitespace());
    command.env("PORT", town.port.to_string()).env("OTHER", other.to_string()).run().ok();
    town.online(2);
    let log = has_said_all(&town);
    assert!(!log.contains("other: 98"), "{log}");
}

#[test]
fn who_has_the_port_is_said() {
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
fn two_apps_do_not_share_with_each_other() {
    let Some(town) = there(PYTHON).then(|| Town::new(&format!("{} --interpreter {PYTHON}", app("share/threads.py"))))
    else {
        return;
    };
    let Some(town) = town else { return };
    town.home.ok("delete it");
    town.start(&format!("{} --interpreter {PYTHON} -i 2", app("share/threads.py")));
    let words = "-n other -i 2 --no-autorestart --listen-timeout 100s";
    let line = format!("start {} --interpreter {PYTHON} {words}", app("share/loop.py"));
    town.home.pmr(line.split_whitespace()).env("PORT", town.port.to_string()).run().code(1);
    let others = town.home.status("other", "stopped");
    let words = format!("port {} is in use by pid", town.port);
    assert!(others.iter().any(|row| row.text("reason").contains(&words)), "{others:?}");
    assert_eq!(town.spread(20).len(), 2);
}

#[test]
fn another_users_workers_leave_a_door_open() {
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
    let town = Town { home, port };
    let loads = town.loads();
    town.home.ok("restart it");
    town.home.ok("reload it");
    let hows: Vec<String> = loads.stop().into_iter().flat_map(|tally| tally.failed).map(|failed| failed.how).collect();
    assert!(!hows.iter().any(|how| how == "refused" || how == "hung"), "{hows:?}");
}

#[test]
fn a_program_that_never_listens_comes_up_all_the_same() {
    let home = Home::new();
    home.ok(&format!("start {} -n tick -i 2 --listen-timeout 300", example("ticker.sh")));
    assert_eq!(home.status("tick", "online").len(), 2);
    home.ok("reload tick");
    home.ok("describe tick").says("nothing through pmr");
}

#[test]
fn where_it_is_not_allowed_programs_share_that_do_so_themselves() {
    let (home, port) = (Home::new(), http::free_port());
    if !there(PYTHON) {
        return;
    }
    let line = format!("start {} --interpreter {PYTHON} -n it -i 2 --listen-timeout 500", app("share/own.py"));
    let start = home.pmr(line.split_whitespace()).env("PORT", port.to_string());
    start.env("FAILPOINTS", "no-takeover=return").run().ok();
    let town = Town { home, port };
    town.shared_by(2);
    town.home.ok("describe it").says("not possible here: told so by a test");
    let log = town.home.daemon_logged("cannot be taken over here");
    assert_eq!(log.matches("cannot be taken over here").count(), 1, "{log}");
}

/// All of it once without privileges: another balancer, and programs that cannot gain any.
#[test]
fn as_an_ordinary_user() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::Uid::effective().is_root() {
        skip("not root: all the other tests are this one");
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
        let town = Town { home: Home::new(), port };
        let by = town.spread(40);
        assert!(by.len() == 2 && by.values().all(|count| *count >= 6), "{by:?}");
        let loads = town.loads();
        for _ in 0..2 {
            let reloaded = run("reload it");
            assert!(reloaded.status.success(), "{reloaded:?}");
        }
        loads.leave_content();
    }
    assert!(run("kill").status.success());
}
