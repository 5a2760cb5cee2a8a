//! From arguments of the command line to complete apps: config files and scripts, overridden by flags.

use super::app_flags::AppFlags;
use super::config_file;
use super::context::Context;
use super::failure::Failure;
use super::resolve::{self, Caller, InputError};
use crate::protocol::Changes;
use crate::spec::AppSpec;
use crate::spec::ecosystem::Options;

impl From<InputError> for Failure {
    fn from(error: InputError) -> Failure {
        let failure = Failure::new(error.message);
        Failure { hint: error.hint, ..failure }
    }
}

/// The flags about config files of start, restart and reload.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FileFlags {
    /// With a config file: only these of its apps, separated by commas
    #[arg(long, value_name = "NAMES")]
    pub only: Vec<String>,
    /// With a config file: merge the variables of `env_NAME`
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

impl FileFlags {
    /// Refuses `--only` and `--env` without a config file: they would have no effect.
    pub fn check_unused(&self) -> Result<(), Failure> {
        if self.env.is_none() && self.only.is_empty() {
            return Ok(());
        }
        Err(Failure::new("--env and --only choose from a config file, and none was named")
            .hint("name the config file instead of the app; `--update-env` takes over this shell's environment"))
    }

    /// The apps of a file that are selected, and the set of variables.
    #[must_use]
    pub fn options(self) -> Options {
        Options { only: self.only, env_name: self.env }
    }
}

/// The apps that a config file declares, complete and checked. An error in one of them is an error of the file.
pub fn of_file(file: &str, options: &Options, flags: &AppFlags) -> Result<Vec<AppSpec>, Failure> {
    let mut drafts = config_file::load(file, options)?;
    flags.apply(&mut drafts)?;
    let caller = Caller::current()?;
    let within = |error: InputError| InputError { message: format!("{file}: {}", error.message), ..error };
    Ok(resolve::resolve_all(drafts, &caller).map_err(within)?)
}

/// The names of the apps that a config file declares, also of those whose scripts no longer exist.
pub fn names_in(file: &str) -> Result<Vec<String>, Failure> {
    let drafts = config_file::load(file, &Options::default())?;
    let caller = Caller::current()?;
    Ok(drafts.iter().filter_map(|draft| resolve::app_name(draft, &caller)).collect())
}

/// The app of `start WHAT`, where WHAT is a script, a program or a command line.
pub fn of_script(what: &str, flags: &AppFlags) -> Result<AppSpec, Failure> {
    Ok(resolve::resolve(flags.draft(what)?, &Caller::current()?)?)
}

/// What flags, arguments after `--` and `--update-env` change in an app that the daemon has already.
pub fn changes(flags: AppFlags, update_env: bool) -> Result<Changes, Failure> {
    let base_env = if update_env { Some(Caller::current()?.env) } else { None };
    Ok(Changes { settings: flags.settings, base_env })
}

/// Prints the warnings about the settings of these apps.
pub fn warn_of<'a>(apps: impl IntoIterator<Item = &'a AppSpec>, cx: &Context) {
    for app in apps {
        app.warnings().iter().for_each(|why| cx.ui.warn(&format!("{}: {why}", app.name)));
    }
}
