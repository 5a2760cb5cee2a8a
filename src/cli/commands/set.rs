//! `set`: changes settings of pmr itself.

use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::cli::home;
use crate::cli::outcome::Outcome;
use crate::settings::{Setting, Settings};

/// Change a setting
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Settings:\n  autosave    on: a reboot starts the processes that run then. off: a reboot starts the \
                  list that `pmr save` wrote\n\nExample:\n  pmr set autosave off"
)]
pub struct Args {
    /// The setting
    #[arg(value_name = "KEY", value_parser = Setting::parse)]
    setting: Setting,
    /// The new value: `on` or `off`
    #[arg(value_name = "VALUE")]
    value: String,
}

/// Runs the command. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let Args { setting, value } = args;
    let mut settings = Settings::read(&cx.home)?;
    settings.set(*setting, value)?;
    home::prepare(&cx.home)?;
    settings.write(&cx.home).doing(|| format!("writing {}", cx.home.settings().display()))?;
    cx.ui.info(match setting {
        Setting::Autosave if settings.autosave => "autosave is on: a reboot starts the processes that run then",
        Setting::Autosave => "autosave is off: a reboot starts the list that `pmr save` wrote",
    });
    Ok(Outcome::Done)
}
