//! The real binary without a daemon: exit codes, and what goes to which stream.

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
fn a_command_without_a_daemon_uses_the_right_exit_code_and_stream() {
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
        (&["startup", "upstart"], 1, "", "is not a supported init system"),
        (&["completion", "fish"], 0, "complete -c pmr", ""),
        (&["help"], 0, "The guide, by topic", ""),
        (&["help"], 0, "Run apps:", ""),
        (&["help", "reload"], 0, "`pmr reload --help` shows the options", ""),
        (&["help", "list"], 0, "Usage: pmr list", ""),
        (&["help", "ls"], 0, "Usage: pmr list", ""),
        (&["help", "keys"], 0, "max_memory_restart", ""),
        (&["help", "keys", "killTimeout"], 0, "Default: `\"1600ms\"`", ""),
        (&["help", "keys", "kill_timeuot"], 1, "", "did you mean `kill_timeout`?"),
        (&["help", "relaod"], 1, "", "did you mean `reload`?"),
        (&["help", "zzz"], 1, "", "there is no topic and no command `zzz`"),
        (&["help", "reload", "x"], 1, "", "belong to the topic `keys`"),
        (&["man"], 1, "", "required"),
        (&["man", "/dev/null/x"], 1, "", "creating the folder /dev/null/x"),
    ] {
        let output = pmr(home.path(), args);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let context = format!("pmr {args:?}: {:?}\nstdout: {stdout}\nstderr: {stderr}", output.status);
        assert_eq!(output.status.code(), Some(code), "{context}");
        assert!(stdout.contains(out) && (!out.is_empty() || stdout.is_empty()), "{context}");
        assert!(stderr.contains(err) && (!err.is_empty() || stderr.is_empty()), "{context}");
        assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "no colours in pipes: {context}");
    }
    assert!(!home.path().join("home").exists(), "nothing that needs no daemon makes a home");
}

#[test]
fn a_closed_standard_output_is_no_error() {
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

#[test]
fn the_schema_is_printed_as_json_alone() {
    let home = tempfile::tempdir().unwrap();
    let output = pmr(home.path(), &["help", "keys", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("standard output is one JSON value");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let topics: serde_json::Value = serde_json::from_slice(&pmr(home.path(), &["help", "--json"]).stdout).unwrap();
    assert!(topics.as_array().unwrap().iter().any(|topic| topic["name"] == "reload"), "{topics}");
}

#[test]
fn manual_pages_are_written_and_named() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("share/man");
    let output = pmr(home.path(), &["man", folder.to_str().unwrap()]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let context = String::from_utf8(output.stdout).unwrap();
    for name in ["pmr.1", "pmr-start.1", "pmr-sendSignal.1", "pmr-guide-reload.7", "pmr-guide-keys.7"] {
        let path = folder.join(name);
        assert!(context.lines().any(|line| line == path.to_str().unwrap()), "{name}: {context}");
        assert!(std::fs::read_to_string(&path).unwrap().contains("\n.SH NAME\n"), "{name}");
    }
    assert_eq!(
        context.lines().count(),
        std::fs::read_dir(&folder).unwrap().count(),
        "the command prints every page that it writes, and no other"
    );
    std::fs::remove_file(folder.join("pmr.1")).unwrap();
    std::fs::create_dir(folder.join("pmr.1")).unwrap();
    let output = pmr(home.path(), &["man", folder.to_str().unwrap()]);
    let context = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && context.contains("writing") && context.contains("pmr.1"), "{context}");
}
