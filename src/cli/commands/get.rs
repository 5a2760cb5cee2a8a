//! `get`: shows settings of pmr itself.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::settings::{Setting, Settings};

/// Show settings
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr get\n  pmr get autosave")]
pub struct Args {
    /// The setting; all if left out
    #[arg(value_name = "KEY", value_parser = Setting::parse)]
    setting: Option<Setting>,
}

/// Runs the command. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let settings = Settings::read(&cx.home)?;
    match args.setting {
        Some(setting) => cx.ui.line(settings.get(setting)),
        None => Setting::ALL.iter().for_each(|setting| {
            cx.ui.line(&format!("{} {}", setting.key(), settings.get(*setting)));
        }),
    }
    Ok(Outcome::Done)
}
