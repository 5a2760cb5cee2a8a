//! Parsing of flags into settings.

use clap::{Args as _, FromArgMatches as _};
use serde_json::json;

use super::*;

fn parse(line: &[&str]) -> Result<(AppFlags, Option<String>), String> {
    let command = AppFlags::augment_args(Command::new("start")).arg(Arg::new("target"));
    let words = std::iter::once("start").chain(line.iter().copied());
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    let target = matches.get_one::<String>("target").cloned();
    Ok((AppFlags::from_arg_matches(&matches).map_err(|error| error.to_string())?, target))
}

#[test]
fn clap_accepts_the_definition_of_the_flags() {
    AppFlags::augment_args(Command::new("start")).debug_assert();
}

#[test]
fn flags_are_parsed_into_settings() {
    for (line, expected) in [
        (&[] as &[&str], json!([])),
        (&["-i", "max"], json!([["instances", "max"]])),
        (&["-i", "-1"], json!([["instances", "-1"]])),
        (&["-i4"], json!([["instances", "4"]])),
        (&["--instances=0"], json!([["instances", "0"]])),
        (&["-n", "a", "--name", "b"], json!([["name", "b"]])),
        (&["--no-autorestart", "--wait-ready"], json!([["autorestart", false], ["wait_ready", true]])),
        (&["--stop-exit-codes", "0", "3"], json!([["stop_exit_codes", ["0", "3"]]])),
        (&["--stop-exit-codes", "0,3"], json!([["stop_exit_codes", ["0", "3"]]])),
        (&["--env-file", "a", "--env-file", "b,c"], json!([["env_file", ["a", "b,c"]]])),
        (&["--node-args", "--inspect --x=\"a b\""], json!([["interpreter_args", "--inspect --x=\"a b\""]])),
        (&["-x", "--no-vizion", "--no-pmx"], json!([["execute_command", true]])),
        (
            &["-o", "o.log", "-e", "/dev/null", "-k", "5s"],
            json!([["kill_timeout", "5s"], ["out_file", "o.log"], ["error_file", "/dev/null"]]),
        ),
    ] {
        let (flags, _) = parse(line).unwrap();
        assert_eq!(json!(flags.settings), expected, "{line:?}");
    }
    assert_eq!(parse(&["--stop-exit-codes=0,3", "app.js"]).unwrap().1.as_deref(), Some("app.js"));
}

#[test]
fn flags_and_arguments_are_in_the_draft() {
    let (mut flags, _) = parse(&["-i", "-1", "--max-memory-restart", "300M", "--stop-exit-codes", "0", "3"]).unwrap();
    flags.set_args(vec!["--port".into(), "a b".into()]);
    let draft = flags.draft("app.js").unwrap();
    assert_eq!(draft.instances.map(|instances| instances.on(4)), Some(3));
    assert_eq!(draft.restart.max_memory, Some(300 << 20));
    assert_eq!(draft.restart.stop_exit_codes, [0, 3]);
    assert_eq!(draft.args.as_deref(), Some(&["--port".to_owned(), "a b".to_owned()][..]));
}

#[test]
fn flags_override_a_file_and_one_name_for_two_apps_is_refused() {
    let drafts = || vec![Draft { namespace: Some("x".into()), ..Draft::default() }, Draft::default()];
    let (flags, _) = parse(&["--namespace", "y"]).unwrap();
    let mut both = drafts();
    flags.apply(&mut both).unwrap();
    assert!(both.iter().all(|draft| draft.namespace.as_deref() == Some("y")));
    let (flags, _) = parse(&["--name", "y"]).unwrap();
    assert_eq!(flags.apply(&mut drafts()).unwrap_err().to_string(), "one --name cannot be given to 2 apps");
}

#[test]
fn errors_of_values_name_their_flag() {
    for (line, expected) in [
        (
            &["-i", "many"],
            "error: invalid value 'many' for '--instances <N>': expected a whole number of at most 10000, or \"max\"\n",
        ),
        (
            &["--min-uptime", "5"],
            "error: invalid value '5' for '--min-uptime <TIME>': expected a time of at least 100 (milliseconds), such as 5000 or \"5s\"\n",
        ),
        (
            &["--stop-exit-codes", "x"],
            "error: invalid value 'x' for '--stop-exit-codes <CODE>...': expected exit codes from 0 to 255, one or a list\n",
        ),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}
