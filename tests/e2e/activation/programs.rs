//! Programs in several languages find their sockets at descriptor 3.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{answering, get_unix, serving};
use crate::support::eventually::until;
use crate::support::{Home, example, http};

#[test]
fn an_activated_worker_gets_the_variables_and_a_queue_of_its_own() {
    let (home, port) = serving("-i 2");
    let environment = http::get(port, "/env").unwrap();
    let pids: BTreeSet<i32> = home.of("a").iter().map(|row| row.pid).collect();
    let own = |pid: &i32| {
        environment == format!("LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=tcp-{port} NODE_UNIQUE_ID=None")
    };
    assert!(pids.iter().any(own), "{environment}, {pids:?}");
    let mut seen = BTreeSet::new();
    until("both answer", || {
        seen.insert(answering(port));
        seen == pids
    });
    home.ok("describe 0").says("serving as").says(&format!("127.0.0.1:{port} (a queue each"));
}

#[test]
fn a_unix_socket_is_private_by_default_and_removed_with_its_app() {
    let home = Home::new();
    let (own, group) = (home.work().join("own.sock"), home.work().join("group.sock"));
    // A leftover of a process that is gone.
    drop(std::os::unix::net::UnixListener::bind(&own).unwrap());
    let config = format!(
        r#"{{"apps": [{{"name": "a", "script": "{}", "instances": 2, "listen":
            ["unix://{}", {{"url": "unix://{}", "name": "web", "mode": "0660"}}]}}]}}"#,
        example("activated.py"),
        own.display(),
        group.display()
    );
    home.write("a.json", &config);
    home.ok("start a.json");
    assert!(get_unix(&own, "/env").unwrap().contains("LISTEN_FDNAMES=own.sock:web"));
    assert!(get_unix(&group, "/").is_ok());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&own), mode(&group)), (0o600, 0o660));
    home.ok("reload a");
    assert!(get_unix(&own, "/").is_ok(), "the path is the app's, not the worker's");
    home.ok("delete a");
    assert!(!own.exists() && !group.exists());
}

#[test]
fn node_listens_on_an_inherited_socket() {
    let (home, port) = (Home::new(), http::free_port());
    home.write("app.js", "require('http').createServer((_, r) => r.end(`${process.pid}`)).listen({ fd: 3 })");
    home.ok(&format!("start app.js -n a -i 2 --listen tcp://127.0.0.1:{port}"));
    let pids: Vec<i32> = home.of("a").iter().map(|row| row.pid).collect();
    assert!(pids.contains(&answering(port)));
    home.ok("reload a");
    assert!(!pids.contains(&answering(port)));
}

#[test]
fn a_static_go_program_listens_on_an_inherited_socket() {
    let (home, port) = (Home::new(), http::free_port());
    let source = r#"package main
import ("fmt"; "net"; "net/http"; "os")
func main() {
    listener, err := net.FileListener(os.NewFile(3, "web"))
    if err != nil { panic(err) }
    http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) }))
}"#;
    home.write("main.go", source);
    let mut build = Command::new("go");
    build.args(["build", "-o", "server", "main.go"]).env("CGO_ENABLED", "0").current_dir(home.work());
    match build.status() {
        Ok(status) => assert!(status.success()),
        // Without Go there is nothing to test.
        Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
    home.ok(&format!("start ./server -n a -i 2 --listen tcp://127.0.0.1:{port}"));
    let pids: Vec<i32> = home.of("a").iter().map(|row| row.pid).collect();
    assert!(pids.contains(&answering(port)));
}

#[test]
fn a_fork_mode_process_inherits_its_socket_and_clients_wait_for_a_restart() {
    let (home, port) = serving("--exec-mode fork");
    let before = answering(port);
    home.ok("restart a");
    let after = answering(port);
    assert_ne!(before, after);
    assert_eq!(home.one("a").pid, after);
    home.ok("stop a");
    assert!(http::get(port, "/").is_err(), "a stopped app gives its port back");
}

#[test]
fn a_socket_that_cannot_be_opened_is_an_error() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let script = example("activated.py");
    let ran = home.run(&format!("start {script} -n a --listen tcp://{address} --max-restarts 1"));
    ran.code(1).complains(&format!("tcp://{address}: another process listens there"));
    home.run(&format!("start {script} --listen http://x")).complains("tcp://HOST:PORT");
    home.run(&format!("start {script} --idle-timeout 5s")).refuses("`idle_timeout`: needs `listen`");
}
