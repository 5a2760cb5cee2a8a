//! Commands and flags of PM2 that pmr does not have, each with an alternative. Without this, the parser would propose
//! the flag or command with the most similar spelling, which is seldom what was meant.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Failure;
use crate::spec::keys::{Lookup, look_up};

/// Commands of PM2 without a counterpart, each with what to do instead.
const COMMANDS: [(&[&str], &str); 9] = [
    (&["monit", "dash", "dashboard", "imonit"], "`pmr list` shows memory and CPU, `pmr logs` the output"),
    (&["deploy"], "use a script that ends with `pmr reload FILE`"),
    (&["serve", "static"], "run a static file server as an app: `pmr start \"npx serve .\"`"),
    (&["init", "ecosystem"], "write the config file by hand; the README shows one"),
    (&["prettylist", "prettyList"], "`pmr jlist | jq` shows the same"),
    (&["install", "uninstall", "module:install", "module:uninstall"], "modules run inside PM2 only"),
    (&["logrotate"], "let logrotate rename the files and then run `pmr reloadLogs`"),
    (&["cleardump"], "`pmr save --force` saves the list, also if it is empty"),
    (&["link", "unlink", "plus", "web", "trigger", "attach", "send"], "apps run without it"),
];

/// Settings that PM2 has as flags, under the flag's name, each with what to do instead.
const FLAGS: [(&str, &str); 5] = [
    ("watch", "run the app under `nodemon` or `node --watch`"),
    ("cron-restart", "let cron run `pmr restart NAME`"),
    ("cron", "let cron run `pmr restart NAME`"),
    ("log-date-format", "let the app write the time, or read with `pmr logs --timestamp`"),
    ("time", "let the app write the time, or read with `pmr logs --timestamp`"),
];

/// The failure for a command line that names something of PM2's that pmr has not; `None` for any other mistake.
pub fn explain(args: &[OsString], error: &clap::Error) -> Option<Failure> {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => command(named(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => {
            flag(named(ContextKind::InvalidArg)?, args.iter().skip(1).any(|word| word == "reload"))
        }
        _ => None,
    }
}

fn command(name: &str) -> Option<Failure> {
    let (_, instead) = COMMANDS.iter().find(|(names, _)| names.contains(&name))?;
    Some(Failure::new(format!("`{name}` is a command of PM2 that pmr does not have")).hint(*instead))
}

fn flag(word: &str, is_reload: bool) -> Option<Failure> {
    let word = word.split('=').next()?;
    let name = word.strip_prefix("--")?;
    if !matches!(look_up(&name.replace('-', "_")), Lookup::Unsupported) {
        return None;
    }
    let failure = Failure::new(format!("`{word}` is an option of PM2 that pmr does not have"));
    if is_reload && name == "watch" {
        return Some(
            failure.hint("`--canary N --canary-for TIME` observes the first processes before the rest follows"),
        );
    }
    Some(match FLAGS.iter().find(|(flag, _)| *flag == name) {
        Some((_, instead)) => failure.hint(*instead),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn failure(line: &str) -> Option<Failure> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        explain(&args, &Cli::try_parse_from(&args).err().expect("the parser refuses the line"))
    }

    #[test]
    fn an_option_of_pm2_is_refused_with_what_to_do_instead() {
        for (line, message, hint) in [
            ("pmr start a.js --watch", "`--watch` is an option of PM2", Some("nodemon")),
            ("pmr start a.js --cron-restart=x", "`--cron-restart` is an option of PM2", Some("pmr restart")),
            ("pmr restart api --log-type json", "`--log-type` is an option of PM2", None),
            ("pmr reload api --canary 1 --watch 1m", "`--watch` is an option of PM2", Some("--canary-for")),
        ] {
            let failure = failure(line).expect(line);
            assert!(failure.message.starts_with(message), "{line}: {}", failure.message);
            assert_eq!(failure.hint.is_some(), hint.is_some(), "{line}");
            assert!(hint.is_none_or(|words| failure.hint.unwrap().contains(words)), "{line}");
        }
    }

    #[test]
    fn a_command_of_pm2_is_refused_with_what_to_do_instead() {
        for line in ["pmr monit", "pmr deploy production setup", "pmr serve . 8080"] {
            let failure = failure(line).expect(line);
            assert!(failure.message.contains("is a command of PM2") && failure.hint.is_some(), "{line}");
        }
    }

    #[test]
    fn other_mistakes_are_left_to_the_parser() {
        for line in ["pmr nope", "pmr start --nope", "pmr scale api", "pmr list --watch-it"] {
            assert_eq!(failure(line), None, "{line}");
        }
    }
}
