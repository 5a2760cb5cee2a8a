//! State that outlives the daemon: `save`, `resurrect`, and the unit for the boot.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::eventually::until;
use crate::support::{Home, app, processes};

#[test]
fn saved_apps_are_restored_as_they_were() {
    let home = Home::new();
    home.pmr(["start", &app("tell.sh"), "-n", "a", "-i", "2", "-x", "--", "x"]).env("COLOUR", "red").run().ok();
    home.logged("a-out-0.log", "colour:red");
    home.ok(&format!("start {} -n b --namespace jobs", app("tell.sh")));
    home.ok("stop b");
    home.ok("save").says("saved 2 apps (3 processes) in").says("dump.json");
    home.ok(&format!("start {} -n unsaved", app("tell.sh")));
    home.ok("kill").says("4 processes stopped; the daemon (pid");
    home.no_process_left();
    home.ok("list").complains("no daemon is running: `pmr resurrect` starts the apps that ran before");
    home.ok("set autosave off").says("a reboot starts the list that `pmr save` wrote");
    home.ok("resurrect").says("[a](").says("this is the list in").says("dump.json");
    let rows = home.list();
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "a", "b"]);
    assert!(home.of("a").iter().all(|row| row.online() && row.restarts == 0));
    assert_eq!((home.one("b").status.as_str(), home.one("b").text("namespace")), ("stopped", "jobs"));
    until("it is red again", || home.log("a-out-0.log").matches("colour:red").count() == 2);
    home.ok("resurrect").says("`a` is here already and was left as it is");
    assert_eq!(home.list().len(), 3, "nothing is started twice");
}

#[test]
fn the_saved_list_is_private_and_the_previous_one_is_kept() {
    let home = Home::new();
    home.ok(&format!("start {} -n first", app("tell.sh")));
    home.ok("dump");
    home.ok(&format!("start {} -n second", app("tell.sh")));
    home.ok("save");
    for (file, apps) in [("dump.json", 2), ("dump.json.bak", 1)] {
        let path = home.root().join(file);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        let dump: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(dump["apps"].as_array().unwrap().len(), apps, "{file}");
    }
    home.ok("delete all");
    home.run("save").refuses("would forget the saved one").complains("pmr save --force");
    home.ok("save --force").says("saved 0 apps");
}

#[test]
fn a_broken_list_is_set_aside_and_the_previous_one_is_used() {
    let home = Home::new();
    home.ok(&format!("start {} -n kept", app("tell.sh")));
    home.ok("save");
    home.ok("save");
    home.ok("delete all");
    home.ok("kill");
    std::fs::write(home.root().join("dump.json"), "{\"version\":1,\"apps\":[{\"na").unwrap();
    home.ok("resurrect").says("could not be used").says("set aside as");
    assert!(home.one("kept").online());
    let names = std::fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("broken-")).count(), 1);
    assert_eq!(home.list().len(), 1);
}

#[test]
fn a_resurrection_without_a_saved_list_is_an_error() {
    let home = Home::new();
    home.run("resurrect").refuses("nothing has been saved").complains("pmr save");
}

#[test]
fn a_terminated_daemon_stops_its_apps_and_remembers_them() {
    let home = Home::new();
    home.ok(&format!("start {} -n up --kill-timeout 100s", app("usr.sh")));
    home.ok(&format!("start {} -n down", app("tell.sh")));
    home.logged("up-out.log", "listening");
    home.ok("stop down");
    processes::signal(home.daemon_pid(), Signal::SIGTERM);
    home.no_process_left();
    assert!(home.log("up-out.log").contains("got INT"), "its apps got the stop signal");
    assert!(!home.root().join("rpc.sock").exists());
    home.ok("resurrect");
    assert_eq!((home.one("up").status.as_str(), home.one("down").status.as_str()), ("online", "stopped"));
}

#[test]
fn the_systemd_unit_is_valid() {
    let home = Home::new();
    let unit = home.ok("startup --print --service-name pmr-e2e");
    assert!(unit.err.is_empty() && unit.out.starts_with("[Unit]"), "{}", unit.transcript());
    for line in ["Type=notify", "User=", "resurrect --no-daemon", "WantedBy=multi-user.target"] {
        assert!(unit.out.contains(line), "{line}: {}", unit.out);
    }
    assert!(unit.out.contains(&format!("Environment=PMR_HOME={}", home.root().display())));
    let path = home.write("pmr-e2e.service", &unit.out);
    if let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        let words = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && !words.contains("pmr-e2e.service:"), "{words}\n{}", unit.out);
    }
    home.ok("startup systemd --print --wait-ip").says("network-online.target");
    home.run("startup --print -u no-such-user").refuses("there is no user no-such-user");
    home.run("startup launchd --print").refuses("is not a supported init system");
    home.ok("startup --user --print").says("WantedBy=default.target");
    home.run("startup --print --service-name a/b").refuses("cannot be the name of a unit");
    assert!(!home.root().exists(), "showing a unit starts no daemon");
}

#[test]
fn no_unit_is_installed_where_systemd_does_not_run() {
    if std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    let home = Home::new();
    home.run("startup -y").refuses("systemd does not run this system").complains("pmr resurrect --no-daemon");
    home.run("unstartup").refuses("systemd does not run this system");
}
