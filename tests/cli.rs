//! The real binary where no daemon runs: exit codes, and what goes to which stream.

mod deadline;

use std::process::{Command, Output, Stdio};

fn pmr(home: &std::path::Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pmr"))
        .args(args)
        .env("PMR_HOME", home.join("home"))
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .expect("the binary under test can be started")
}

#[test]
fn what_is_said_without_a_daemon_and_where() {
    let home = tempfile::tempdir().unwrap();
    let _deadline = deadline::Deadline::new(Some(home.path()));
    for (args, code, out, err) in [
        (&["list"][..], 0, "namespace", ""),
        (&["ls", "-s"], 0, "namespace", ""),
        (&["jlist"], 0, "[]", ""),
        (&["kill"], 0, "no daemon is running for", ""),
        (&["kill", "-s"], 0, "", ""),
        (&["ping"], 1, "", "error: no daemon is running for"),
        (&["stop", "all"], 1, "", "hint: `pmr start app.js`"),
        (&["scale", "api", "-1"], 1, "", "no daemon is running"),
        (&["save"], 1, "", "no daemon is running"),
        (&["id", "api"], 1, "", "no daemon is running"),
        (&["logs", "api"], 1, "", "no daemon is running"),
        (&["restart", "api", "--env", "x"], 1, "", "--env and --only choose from a config file"),
        (&["start", "no-such-file.js"], 1, "", "no-such-file.js"),
        (&["start", "no-such.config.js"], 1, "", "there is no file no-such.config.js"),
        (&[], 1, "", "Usage: pmr"),
        (&["nope"], 1, "", "unrecognized subcommand"),
        (&["stop", "--nope"], 1, "", "unexpected argument"),
        (&["stop"], 1, "", "required"),
        (&["--help"], 0, "Run apps:", ""),
        (&["reload", "--help"], 0, "Examples:", ""),
        (&["--version"], 0, env!("CARGO_PKG_VERSION"), ""),
        (&["startup", "--print"], 0, "Type=notify", ""),
        (&["startup", "upstart"], 1, "", "there is systemd"),
        (&["completion", "fish"], 0, "complete -c pmr", ""),
    ] {
        let output = pmr(home.path(), args);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let told = format!("pmr {args:?}: {:?}\nstdout: {stdout}\nstderr: {stderr}", output.status);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(stdout.contains(out) && (!out.is_empty() || stdout.is_empty()), "{told}");
        assert!(stderr.contains(err) && (!err.is_empty() || stderr.is_empty()), "{told}");
        assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "no colours in pipes: {told}");
    }
    assert!(!home.path().join("home").exists(), "nothing that needs no daemon makes a home");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let _deadline = deadline::Deadline::new(Some(home.path()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_pmr"))
        .arg("list")
        .env("PMR_HOME", home.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
