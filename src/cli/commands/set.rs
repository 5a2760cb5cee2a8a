//! `set`: change pmr's own settings.

use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::cli::home;
use crate::cli::outcome::Outcome;
use crate::settings::{Setting, Settings};

/// Change a setting
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Settings:\n  autosave    on: what runs comes back after a reboot, saved or not. off: what `pmr save` \
                        wrote comes back\n\nExample:\n  pmr set autosave off"
)]
pub struct Args {
    /// Which
    #[arg(value_name = "KEY", value_parser = Setting::parse)]
    setting: Setting,
    /// To what: `on` or `off`
    #[arg(value_name = "VALUE")]
    value: String,
}

/// Carries the command out. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let Args { setting, value } = args;
    let mut settings = Settings::read(&cx.home)?;
    settings.set(*setting, value)?;
    home::prepare(&cx.home)?;
    settings.write(&cx.home).doing(|| format!("writing {}", cx.home.settings().display()))?;
    cx.ui.say(match setting {
        Setting::Autosave if settings.autosave => "autosave is on: a reboot brings back what runs then",
        Setting::Autosave => "autosave is off: a reboot brings back what `pmr save` wrote",
    });
    Ok(Outcome::Done)
}
