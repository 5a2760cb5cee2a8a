//! Somebody deletes what is the daemon's.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{counts_on, daemon_log, kill_god, nothing_is_missing, start_counter};
use crate::support::eventually::until;
use crate::support::{Home, http};

#[test]
fn sockets_that_were_deleted_are_made_again() {
    let home = Home::new();
    let count = start_counter(&home);
    for file in ["rpc.sock", "pub.sock"] {
        fs::remove_file(home.root().join(file)).unwrap();
    }
    assert_eq!(home.one("count").pid, count, "the command waits for the new one");
    until("both are there", || home.root().join("pub.sock").exists());
    fs::remove_file(home.root().join("pmr.pid")).unwrap();
    until("the lock is there", || fs::read_to_string(home.root().join("pmr.pid")).is_ok_and(|pid| !pid.is_empty()));
    home.has_heard();
    kill_god(&home);
    assert_eq!(home.one("count").pid, count, "the next God has the new ones");
    fs::remove_file(home.root().join("rpc.sock")).unwrap();
    home.pmr(["start", "sleep 1000", "-n", "two"]).run().ok();
    assert_eq!(home.list().len(), 2, "no second daemon was started");
    home.daemon_logged("rpc.sock was deleted, and is there again");
}

/// Deletes it as a person would: again, if an app has just written to its log and the folder was not empty at the end.
fn delete_folder(folder: &Path) {
    until("the folder is deleted", || match fs::remove_dir_all(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => false,
        Err(error) => panic!("{}: {error}", folder.display()),
    });
}

/// Waits for the socket in a home that was deleted. In the moment before there is no trace of the daemon, and a command
/// that starts one would.
fn is_made_again(home: &Home) {
    until("the home is there again", || home.root().join("rpc.sock").exists());
}

#[test]
fn a_home_that_was_deleted_is_made_again() {
    let home = Home::new();
    let count = start_counter(&home);
    let keeper = home.daemon_pid();
    for round in 0..5 {
        delete_folder(home.root());
        is_made_again(&home);
        assert_eq!(home.one("count").pid, count, "round {round}");
        assert_eq!(home.daemon_pid(), keeper);
    }
    counts_on(&home);
    let moved = home.work().join("moved");
    fs::rename(home.root(), &moved).unwrap();
    is_made_again(&home);
    assert_eq!(home.one("count").pid, count);
    home.ok("save");
    home.ok("restart count");
    home.logged("count-out.log", "line 1\n");
}

#[test]
fn node_workers_start_in_a_home_that_was_deleted() {
    let home = Home::new();
    let port = http::free_port();
    home.serve(port, &format!("{} -n web -i 2", crate::support::example("http/server.js")));
    delete_folder(home.root());
    is_made_again(&home);
    home.ok("reload web");
    http::get(port, "/").unwrap();
}

#[test]
fn logs_that_were_deleted_are_made_again() {
    let home = Home::new();
    start_counter(&home);
    let (logs, file) = (home.root().join("logs"), home.root().join("logs/count-out.log"));
    fs::remove_file(&file).unwrap();
    counts_on(&home);
    delete_folder(&logs);
    counts_on(&home);
    nothing_is_missing(&home.log("count-out.log"));
    // The next line may come between the two.
    until("a folder is in its place", || {
        let _ = fs::remove_file(&file);
        fs::create_dir(&file).is_ok()
    });
    until("the daemon says so", || daemon_log(&home).contains("cannot write this log: output is dropped"));
    fs::remove_dir(&file).unwrap();
    let log = home.logged("count-out.log", "line ");
    assert!(log.starts_with("[pmr] ") && log.contains(" bytes of output are missing here"), "{log}");
    counts_on(&home);
}
