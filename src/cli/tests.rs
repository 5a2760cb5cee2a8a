//! The grammar of the command line.

use clap::{CommandFactory, Parser};

use super::*;

fn parses(line: &str) -> bool {
    Cli::try_parse_from(line.split(' ')).is_ok()
}

#[test]
fn clap_accepts_the_definition() {
    Cli::command().debug_assert();
}

#[test]
fn valid_command_lines_are_parsed() {
    for line in [
        "pmr start",
        "pmr start app.js --name api -- --port 3000 -s",
        "pmr start eco.config.js --only a,b --env production",
        "pmr start api -a",
        "pmr -s stop all",
        "pmr stop 0 1 api /^w/ --no-color",
        "pmr restart api --update-env",
        "pmr reload api --parallel 4 --no-daemon",
        "pmr del 3",
        "pmr scale api -1",
        "pmr scale api +2",
        "pmr scale api max",
        "pmr reset all",
        "pmr sendSignal SIGUSR2 api",
        "pmr send-signal 12 api",
        "pmr l",
        "pmr ps --sort cpu:desc",
        "pmr status -m",
        "pmr jlist --show-secrets",
        "pmr desc 0",
        "pmr show api",
        "pmr id api",
        "pmr pid",
        "pmr env 0",
        "pmr flush",
        "pmr reloadLogs",
        "pmr dump --force",
        "pmr resurrect",
        "pmr startup systemd -u ann --hp /home/ann --service-name x --print -y",
        "pmr startup --user",
        "pmr unstartup -u ann",
        "pmr kill",
        "pmr ping",
        "pmr set autosave off",
        "pmr get",
        "pmr get autosave",
        "pmr completion zsh",
        "pmr help",
        "pmr help reload",
        "pmr help keys --schema",
        "pmr help keys kill_timeout --no-color",
        "pmr help --json",
        "pmr man /tmp/x",
    ] {
        assert!(
            parses(line),
            "{line}: {:?}",
            Cli::try_parse_from(line.split(' ')).err().map(|error| error.to_string())
        );
    }
}

#[test]
fn invalid_command_lines_are_refused() {
    for line in [
        "pmr",
        "pmr nope",
        "pmr stop",
        "pmr delete",
        "pmr scale api",
        "pmr scale api two",
        "pmr scale api -0",
        "pmr sendSignal NOPE api",
        "pmr sendSignal 9",
        "pmr reload api --parallel 0",
        "pmr stop /(/",
        "pmr list --sort size",
        "pmr start --nope",
        "pmr kill now",
        "pmr set",
        "pmr set autosave",
        "pmr set autosaev on",
        "pmr completion",
        "pmr help keys kill_timeout --schema",
        "pmr help reload --json",
        "pmr man",
    ] {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn help_and_version_end_with_0_and_errors_with_1() {
    let code = |line: &str| {
        let error = Cli::try_parse_from(line.split(' ')).err().expect("this is no command to carry out");
        matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
    };
    assert!(code("pmr --help") && code("pmr -V") && code("pmr -v") && code("pmr stop --help"));
    assert!(!code("pmr") && !code("pmr nope"));
}

#[test]
fn every_command_has_an_example_and_stands_in_the_overview() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example") && help.contains(&format!("pmr {name}")), "{name}: {help:?}");
        assert!(command.get_about().is_some(), "{name} says what it does");
        let names = commands::OVERVIEW.lines().filter_map(|line| line.strip_prefix("  ")?.get(..12));
        let mentioned = names.flat_map(|names| names.split(',')).any(|one| one.trim() == name);
        assert!(mentioned, "{name} stands in the overview");
    }
}

#[test]
fn completion_scripts_contain_the_commands() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "pmr", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("reloadLogs"), "{shell}");
    }
}

#[test]
fn every_flag_of_the_table_exists_with_its_default() {
    let mut pmr = Cli::command();
    pmr.build();
    let start = pmr.find_subcommand("start").unwrap();
    for key in crate::spec::keys::table::KEYS {
        let Some(flag) = &key.flag else { continue };
        let found = start.get_arguments().find(|arg| arg.get_long() == Some(flag.long));
        let help = found.and_then(clap::Arg::get_help).map(ToString::to_string);
        let help = help.unwrap_or_else(|| panic!("--{} is a flag of start, with help", flag.long));
        let shown = key.about.fallback.short().is_some_and(|default| help.contains(&format!("[default: {default}]")));
        let expected =
            !matches!(flag.takes, crate::spec::keys::Takes::Nothing(_)) && key.about.fallback.short().is_some();
        assert_eq!(shown, expected, "--{}: {help}", flag.long);
    }
}

/// The generator for fish has no values of positional arguments.
#[test]
fn completion_scripts_contain_the_topics() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "pmr", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("recovery"), "{shell}");
    }
}

#[test]
fn the_error_of_a_number_says_what_is_expected() {
    for (line, expected) in [
        ("pmr logs --lines abc", "expected a whole number such as 20"),
        ("pmr history --lines=-1x", "expected a whole number such as 20"),
        ("pmr reload all --parallel 0", "expected a whole number of at least 1"),
        ("pmr reload all --parallel many", "expected a whole number of at least 1"),
        ("pmr start app.js --nofile 999999999999", "expected a whole number from 16 to 4294967295"),
        ("pmr start app.js --cpu=-5%", "expected"),
    ] {
        let Err(error) = Cli::try_parse_from(line.split(' ')) else { panic!("{line} is parsed") };
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains("in string"), "{line}: {error}");
    }
}
