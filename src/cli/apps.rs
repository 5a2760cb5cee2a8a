//! From words on the command line to complete apps: config files and scripts, with what the flags say over them.

use super::app_flags::AppFlags;
use super::config_file;
use super::failure::Failure;
use super::resolve::{self, Context, InputError};
use crate::spec::AppSpec;
use crate::spec::ecosystem::Options;

impl From<InputError> for Failure {
    fn from(error: InputError) -> Failure {
        let failure = Failure::new(error.message);
        Failure { hint: error.hint, ..failure }
    }
}

/// The apps a config file declares, complete and checked: all of them hold, or none is given.
pub fn of_file(file: &str, options: &Options, flags: &AppFlags) -> Result<Vec<AppSpec>, Failure> {
    let mut drafts = config_file::load(file, options)?;
    flags.apply(&mut drafts)?;
    let context = Context::current()?;
    let within = |error: InputError| InputError { message: format!("{file}: {}", error.message), ..error };
    Ok(resolve::resolve_all(drafts, &context).map_err(within)?)
}

/// The names of the apps a config file declares, also where their scripts are gone.
pub fn names_in(file: &str) -> Result<Vec<String>, Failure> {
    let drafts = config_file::load(file, &Options::default())?;
    let context = Context::current()?;
    Ok(drafts.iter().filter_map(|draft| resolve::app_name(draft, &context)).collect())
}

/// The app that `start WHAT` means, if WHAT is a script, a program or a command line.
pub fn of_script(what: &str, flags: &AppFlags) -> Result<AppSpec, Failure> {
    Ok(resolve::resolve(flags.draft(what)?, &Context::current()?)?)
}
