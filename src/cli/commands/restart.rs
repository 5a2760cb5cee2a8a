//! `restart`: down and up again.

use super::super::Context;
use super::super::app_flags::AppFlags;
use super::super::failure::Failure;
use super::super::outcome::Outcome;
use super::{FileFlags, Revision};
use crate::protocol::{Action, Launch};
use crate::spec::target::Selector;

/// Stop and start processes, at once; one that is stopped is started
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr restart api\n  pmr restart all\n  pmr restart api --update-env\n  pmr restart ecosystem.config.js --only api"
)]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/, config files
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
    #[command(flatten)]
    flags: AppFlags,
    #[command(flatten)]
    files: FileFlags,
    /// Take over the environment of this shell
    #[arg(short = 'a', long)]
    update_env: bool,
    /// Arguments of the app, in place of those it has
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs it.
pub async fn run(mut args: Args, cx: &Context) -> Result<Outcome, Failure> {
    args.flags.set_args(args.args);
    let revision = Revision::new(args.selectors, args.files, args.flags, args.update_env)?;
    revision.carry_out(Launch::OrRestart, Action::Restart, cx).await
}
