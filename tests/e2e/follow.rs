//! `pmr logs`, left open while apps and daemons start and end.

use nix::sys::signal::Signal;

use crate::crash::keeper::kill_both;
use crate::support::{Home, app};

#[test]
fn an_open_log_view_shows_apps_started_later() {
    let home = Home::new();
    let mut logs = home.pmr(["logs", "--out", "--no-color"]).spawn();
    home.ok(&format!("start {} -n first -i 2 -x -- one", app("tell.sh")));
    logs.says("0|first    | args:1:one\n");
    logs.says("1|first    | instance:1\n");
    home.ok("scale first +1");
    logs.says("2|first    | args:1:one\n");
    home.ok(&format!("start {} -n a-longer-name -- two", app("tell.sh")));
    let said = logs.says("3|a-longer-name | args:1:two\n");
    assert_eq!(said.matches("args:1:one").count(), 3, "{said}");
    logs.signal(Signal::SIGTERM);
}

#[test]
fn an_open_log_view_shows_only_the_selected_apps() {
    let home = Home::new();
    home.ok(&format!("start {} -n api -- one", app("tell.sh")));
    home.logged("api-out.log", "size:unset\n");
    let mut logs = home.pmr(["logs", "api", "--lines", "1"]).spawn();
    let mut all = home.pmr(["logs", "--raw", "--out", "--lines", "1"]).spawn();
    logs.says("colour");
    all.says("colour");
    home.ok(&format!("start {} -n other -- two", app("tell.sh")));
    all.says("args:1:two\n");
    home.ok("restart api");
    let said = logs.says("args:1:one\n");
    assert!(!said.contains("two"), "{said}");
}

#[test]
fn an_open_log_view_continues_with_the_next_daemon() {
    let home = Home::new();
    home.ok(&format!("start {} -n api -- one", app("tell.sh")));
    home.logged("api-out.log", "size:unset\n");
    home.ok("save");
    let mut logs = home.pmr(["logs", "--lines", "1", "--out"]).spawn();
    logs.says("0|api      | colour");
    home.ok("kill");
    home.ok("resurrect");
    logs.says("0|api      | args:1:one\n");
    home.ok(&format!("start {} -n later -- two", app("tell.sh")));
    logs.says("1|later    | args:1:two\n");
    // A killed daemon leaves its sockets behind.
    home.ok("delete all");
    kill_both(&home);
    home.ok(&format!("start {} -n last -- three", app("tell.sh")));
    logs.says("|last     | args:1:three\n");
}

#[test]
fn raw_lines_are_printed_on_their_original_stream() {
    let home = Home::new();
    let script = home.write("both.sh", "#!/bin/sh\necho fine\necho bad >&2\nexec sleep 1000\n");
    home.ok(&format!("start {} -n both", script.display()));
    home.logged("both-out.log", "fine");
    home.logged("both-error.log", "bad");
    let ran = home.ok("logs both --raw --nostream");
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("fine\n", "bad\n"));
    let ran = home.ok("logs both --json --nostream --err");
    assert!(ran.out.starts_with(r#"{"message":"bad","#) && ran.out.lines().count() == 1, "{}", ran.transcript());
    home.ok("flush");
    home.ok("logs both --nostream").complains("nothing has been logged yet");
    home.run("logs boht").refuses("no process or namespace matches `boht`").complains("did you mean both?");
    let ran = home.ok("logs both --lines 0 --nostream");
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
}
