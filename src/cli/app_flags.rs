//! The flags of `start`, `restart` and `reload` that set keys of an app, made from the table of keys.
//!
//! ```ignore
//! #[derive(clap::Args)]
//! struct Start { target: Option<String>, #[command(flatten)] app: AppFlags }
//! ```

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use serde_json::Value;

use super::resolve::InputError;
use crate::spec::keys::table::{IGNORED_FLAGS, KEYS};
use crate::spec::keys::{Draft, Flag, Key, Lookup, Takes, look_up};

/// The settings that were given as flags, by canonical key, each checked; sent as `Changes.settings`.
///
/// The ids of the clap arguments are the long names of the flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppFlags {
    /// In the order of the table.
    pub settings: Vec<(String, Value)>,
}

impl AppFlags {
    /// Adds the arguments after `--`: the app's own arguments, which replace those of a config file. An empty list
    /// changes nothing.
    pub fn set_args(&mut self, args: Vec<String>) {
        if !args.is_empty() {
            self.settings.push(("args".to_owned(), Value::from(args)));
        }
    }

    /// The draft of an app that is described by the command line alone.
    pub fn draft(&self, script: &str) -> Result<Draft, InputError> {
        let mut drafts = [Draft { script: Some(script.to_owned()), ..Draft::default() }];
        self.apply(&mut drafts)?;
        let [draft] = drafts;
        Ok(draft)
    }

    /// Sets the flags in drafts; they override a config file.
    pub fn apply(&self, drafts: &mut [Draft]) -> Result<(), InputError> {
        for (name, value) in &self.settings {
            if name == "name" && drafts.len() > 1 {
                let message = format!("one --name cannot be given to {} apps", drafts.len());
                return Err(InputError::new(message).hint("`--only APP` chooses one of the file's apps"));
            }
            let Lookup::Known(key) = look_up(name) else { continue };
            for draft in &mut *drafts {
                key.set(draft, value).map_err(|why| InputError::new(format!("`{name}`: {why}")))?;
            }
        }
        Ok(())
    }
}

impl clap::Args for AppFlags {
    fn augment_args(command: Command) -> Command {
        command.args(start_args())
    }

    fn augment_args_for_update(command: Command) -> Command {
        command.args(start_args())
    }
}

impl clap::FromArgMatches for AppFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<AppFlags, clap::Error> {
        let settings = flags().filter_map(|(key, flag)| Some((key.name.to_owned(), given(matches, flag)?))).collect();
        Ok(AppFlags { settings })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.settings.extend(AppFlags::from_arg_matches(matches)?.settings);
        Ok(())
    }
}

fn flags() -> impl Iterator<Item = (&'static Key, &'static Flag)> {
    KEYS.iter().filter_map(|key| Some((key, key.flag.as_ref()?)))
}

/// All flags of the table, and the flags of PM2 that are accepted without effect.
#[must_use]
pub fn start_args() -> Vec<Arg> {
    let ignored = IGNORED_FLAGS
        .iter()
        .map(|long| Arg::new(*long).long(*long).hide(true).action(ArgAction::SetTrue).overrides_with(*long));
    flags().map(|(key, flag)| arg(key, flag)).chain(ignored).collect()
}

fn arg(key: &'static Key, flag: &'static Flag) -> Arg {
    let arg = Arg::new(flag.long)
        .long(flag.long)
        .visible_aliases(flag.aliases)
        .help(help(key, flag))
        .help_heading("Settings of the app");
    let arg = match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    let checked = move |text: &str| key.check_word(text);
    match flag.takes {
        Takes::Value(name) => arg.value_name(name).value_parser(checked).overrides_with(flag.long),
        Takes::Dashed(name) => {
            arg.value_name(name).value_parser(checked).overrides_with(flag.long).allow_hyphen_values(true)
        }
        Takes::Repeated(name) => arg.value_name(name).value_parser(checked).action(ArgAction::Append),
        Takes::Several(name) => {
            arg.value_name(name).value_parser(checked).action(ArgAction::Append).num_args(1..).value_delimiter(',')
        }
        Takes::Nothing(_) => arg.action(ArgAction::SetTrue).overrides_with(flag.long),
    }
}

/// The line in `--help`, with the default if the flag takes a value.
fn help(key: &Key, flag: &Flag) -> String {
    match (flag.takes, key.about.fallback.short()) {
        (Takes::Nothing(_), _) | (_, None) => flag.help.to_owned(),
        (_, Some(default)) => format!("{} [default: {default}]", flag.help),
    }
}

/// The value that was given for a flag.
fn given(matches: &ArgMatches, flag: &Flag) -> Option<Value> {
    if matches.value_source(flag.long) != Some(ValueSource::CommandLine) {
        return None;
    }
    match flag.takes {
        Takes::Nothing(sets) => Some(Value::Bool(sets)),
        Takes::Value(_) | Takes::Dashed(_) => matches.get_one::<Value>(flag.long).cloned(),
        Takes::Repeated(_) | Takes::Several(_) => {
            matches.get_many::<Value>(flag.long).map(|values| values.cloned().collect())
        }
    }
}

#[cfg(test)]
mod tests;
