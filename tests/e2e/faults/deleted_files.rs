//! Files of the daemon are deleted while it runs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{counter_goes_on, daemon_log, kill_god, no_line_is_missing, start_counter};
use crate::support::eventually::until;
use crate::support::{Home, http};

#[test]
fn deleted_sockets_are_created_again() {
    let home = Home::new();
    let count = start_counter(&home);
    for file in ["rpc.sock", "pub.sock"] {
        fs::remove_file(home.root().join(file)).unwrap();
    }
    assert_eq!(home.one("count").pid, count, "the command waits for the new one");
    until("both are there", || home.root().join("pub.sock").exists());
    fs::remove_file(home.root().join("pmr.pid")).unwrap();
    until("the lock is there", || fs::read_to_string(home.root().join("pmr.pid")).is_ok_and(|pid| !pid.is_empty()));
    home.sync();
    kill_god(&home);
    assert_eq!(home.one("count").pid, count, "the next God has the new ones");
    fs::remove_file(home.root().join("rpc.sock")).unwrap();
    home.pmr(["start", "sleep 1000", "-n", "two"]).run().ok();
    assert_eq!(home.list().len(), 2, "no second daemon was started");
    home.daemon_logged("rpc.sock was deleted and has been made again");
}

/// Deletes a folder as a user would: again, if an app has written to its log meanwhile and the folder was not empty at
/// the end.
fn delete_folder(folder: &Path) {
    until("the folder is deleted", || match fs::remove_dir_all(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => false,
        Err(error) => panic!("{}: {error}", folder.display()),
    });
}

/// Waits for the socket in a home that was deleted. Before that moment there is no trace of the daemon, and a command
/// that starts a daemon would start another.
fn wait_for_recreated_home(home: &Home) {
    until("the home is there again", || home.root().join("rpc.sock").exists());
}

#[test]
fn a_deleted_home_is_created_again() {
    let home = Home::new();
    let count = start_counter(&home);
    let keeper = home.daemon_pid();
    for round in 0..5 {
        delete_folder(home.root());
        wait_for_recreated_home(&home);
        assert_eq!(home.one("count").pid, count, "round {round}");
        assert_eq!(home.daemon_pid(), keeper);
    }
    counter_goes_on(&home);
    let moved = home.work().join("moved");
    fs::rename(home.root(), &moved).unwrap();
    wait_for_recreated_home(&home);
    assert_eq!(home.one("count").pid, count);
    home.ok("save");
    home.ok("restart count");
    home.logged("count-out.log", "line 1\n");
}

#[test]
fn node_workers_start_in_a_recreated_home() {
    let home = Home::new();
    let port = http::free_port();
    home.serve(port, &format!("{} -n web -i 2", crate::support::example("http/server.js")));
    delete_folder(home.root());
    wait_for_recreated_home(&home);
    home.ok("reload web");
    http::get(port, "/").unwrap();
}

#[test]
fn deleted_logs_are_created_again() {
    let home = Home::new();
    start_counter(&home);
    let (logs, file) = (home.root().join("logs"), home.root().join("logs/count-out.log"));
    fs::remove_file(&file).unwrap();
    counter_goes_on(&home);
    delete_folder(&logs);
    counter_goes_on(&home);
    no_line_is_missing(&home.log("count-out.log"));
    // The daemon may create the file again between the two calls.
    until("a folder is in its place", || {
        let _ = fs::remove_file(&file);
        fs::create_dir(&file).is_ok()
    });
    until("the daemon says so", || daemon_log(&home).contains("cannot write this log: output is dropped"));
    fs::remove_dir(&file).unwrap();
    let log = home.logged("count-out.log", "line ");
    assert!(log.starts_with("[pmr] ") && log.contains(" bytes of output are missing here"), "{log}");
    counter_goes_on(&home);
}
