//! The life cycle of the daemon: which command starts it, how commands find it, and how it ends.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use crate::crash::keeper::kill_both;
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::inventory::processes_match_list;
use crate::support::{Home, app, example, pmr, processes};

#[test]
fn the_first_command_that_needs_a_daemon_starts_one() {
    let home = Home::new();
    home.run("ping").refuses("no daemon is running for");
    home.ok("kill").says("nothing to do");
    home.ok("list");
    assert!(!home.root().exists());
    home.ok(&format!("start {}", app("tell.sh")));
    let pid = home.daemon_pid();
    home.ok("ping").says(&format!(
        "pong: version {}, pid {pid}, home {}",
        env!("CARGO_PKG_VERSION"),
        home.root().display()
    ));
    let mode = |path: &str| std::fs::metadata(home.root().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("rpc.sock"), mode("pub.sock"), mode("pmr.log")), (0o700, 0o600, 0o600, 0o600));
    assert_eq!(nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).unwrap().as_raw(), pid, "its own session");
    home.ok("kill").says(&format!("the daemon (pid {pid}) has ended"));
    home.no_process_left();
    assert!(!home.root().join("rpc.sock").exists() && !home.root().join("pmr.pid").exists());
}

#[test]
fn many_commands_at_once_get_one_daemon() {
    for _ in 0..5 {
        let home = Home::new();
        let names: Vec<String> = (0..8).map(|n| format!("app-{n}")).collect();
        let commands: Vec<_> =
            names.iter().map(|name| home.pmr(["start", &app("tell.sh"), "-n", name]).spawn()).collect();
        for command in commands {
            command.wait(WAIT_LIMIT).ok();
        }
        let mut found: Vec<_> = home.list().into_iter().map(|row| row.name).collect();
        found.sort();
        assert_eq!(found, names);
        processes_match_list(&home);
    }
}

#[test]
fn the_leftovers_of_a_dead_daemon_do_not_prevent_a_start() {
    let home = Home::new();
    std::fs::create_dir(home.root()).unwrap();
    drop(UnixListener::bind(home.root().join("rpc.sock")).unwrap());
    drop(UnixListener::bind(home.root().join("pub.sock")).unwrap());
    std::fs::write(home.root().join("pmr.pid"), "1").unwrap();
    home.run("ping").refuses("no daemon is running");
    home.ok("kill").says("nothing to do");
    home.ok(&format!("start {}", app("tell.sh")));
    assert!(home.one("tell").online());
    let (killed, app) = (home.daemon_pid(), home.one("tell").pid);
    kill_both(&home);
    processes::signal(app, Signal::SIGKILL);
    until("its app is dead, too", || !processes::lives(app));
    home.run("ping").refuses("no daemon is running");
    home.ok(&format!("start {}", crate::support::app("tell.sh")));
    assert_ne!(home.daemon_pid(), killed);
}

#[test]
fn a_second_daemon_is_refused() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let pid = home.daemon_pid();
    home.run("ping --no-daemon").refuses(&format!("a daemon (pid {pid}) runs in"));
    home.ok("ping");
    assert!(home.one("tell").online());
}

#[test]
fn a_foreground_daemon_runs_the_command_shows_logs_and_ends_with_ctrl_c() {
    let home = Home::new();
    let mut daemon = home.pmr(["start", &app("usr.sh"), "--no-daemon", "--kill-timeout", "100s"]).spawn();
    daemon.says("listening");
    assert_eq!(home.daemon_pid(), daemon.pid(), "the daemon is this very process");
    let pid = home.one("usr").pid;
    daemon.signal(Signal::SIGINT);
    daemon.wait(WAIT_LIMIT).ok();
    assert!(!processes::lives(pid));
    assert!(home.log("usr-out.log").contains("got INT"));
    home.no_process_left();
    let again = home.pmr(["resurrect", "--no-daemon"]).spawn();
    home.when("usr", "is brought back", |rows| rows.len() == 1 && rows[0].online());
    again.signal(Signal::SIGTERM);
    again.wait(WAIT_LIMIT).ok();
    home.no_process_left();
    home.pmr(["start", "nosuch.js", "--no-daemon"]).run().refuses("nosuch.js");
    home.no_process_left();
}

#[test]
fn a_hangup_ends_neither_daemon_nor_apps() {
    let home = Home::new();
    home.ok(&format!("start {}", app("tell.sh")));
    let (before, daemon) = (home.one("tell").pid, [home.daemon_pid(), home.god_pid()]);
    processes::signal(daemon[0], Signal::SIGHUP);
    home.sync();
    assert_eq!((home.one("tell").pid, [home.daemon_pid(), home.god_pid()]), (before, daemon));
}

#[test]
fn a_foreground_daemon_shuts_down_when_its_terminal_closes() {
    let home = Home::new();
    let mut daemon = home.pmr(["start", &app("usr.sh"), "--no-daemon", "--kill-timeout", "100s"]).spawn();
    daemon.says("listening");
    daemon.signal(Signal::SIGHUP);
    daemon.wait(WAIT_LIMIT);
    home.no_process_left();
    assert!(home.log("usr-out.log").contains("got INT"));
}

#[test]
fn an_init_system_is_notified_by_the_process_it_started() {
    let home = Home::new();
    let path = home.scratch().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    setsockopt(&socket, sockopt::PassCred, &true).unwrap();
    socket.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    let words = ["start".to_owned(), app("tell.sh"), "--no-daemon".to_owned()];
    let daemon = home.pmr(words).env("NOTIFY_SOCKET", &path).spawn();
    let (mut text, mut space) = ([0; 256], nix::cmsg_space!(nix::sys::socket::UnixCredentials));
    let mut parts = [std::io::IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
    let sender = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid()),
        _ => None,
    });
    let length = message.bytes;
    assert_eq!(sender, Some(daemon.pid()));
    assert!(String::from_utf8_lossy(&text[..length]).starts_with("READY=1"));
    home.status("tell", "online");
    daemon.signal(Signal::SIGTERM);
    daemon.wait(WAIT_LIMIT);
    home.no_process_left();
}

#[test]
fn the_output_of_a_command_ends_with_the_command() {
    // `pmr` in a pipe or in `$(…)`: the daemon that it starts must not hold the pipe open.
    let home = Home::new();
    let line = format!("echo \"$({} start {} | wc -l)\"", pmr::BINARY, app("tell.sh"));
    let mut shell = Command::new("bash");
    shell.args(["-c", &line]).env("PMR_HOME", home.root()).stdin(Stdio::null());
    let output = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "6\n", "{output:?}");
}

#[test]
fn a_worker_of_one_home_can_command_another() {
    let (outer, inner) = (Home::new(), Home::new());
    let command = format!("{} start {} && sleep 1000", pmr::BINARY, example("ticker.sh"));
    outer.pmr(["start", &command, "-n", "nested"]).env("HOME", "/tmp").run().ok();
    outer.logged("nested-out.log", "✓");
    assert!(outer.of("ticker").len() == 1 && !inner.root().exists(), "PMR_HOME of the worker is its own daemon's");
}

#[test]
fn an_impossible_home_is_an_error() {
    let home = Home::new();
    let file = home.write("file", "");
    let start = |root: &std::path::Path| {
        let words = ["start".into(), app("tell.sh").into()];
        pmr::Pmr::new(&pmr::binary(), root, home.work(), words.to_vec()).run()
    };
    start(&file).refuses("file");
    start(&home.work().join("x".repeat(120))).refuses("set PMR_HOME to a shorter one");
}
