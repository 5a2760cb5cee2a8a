//! `reload`: replaced without a gap.

use super::super::Context;
use super::super::app_flags::AppFlags;
use super::super::failure::Failure;
use super::super::outcome::Outcome;
use super::{FileFlags, Revision};
use crate::protocol::{Action, Launch};
use crate::spec::target::Selector;

/// Replace processes one after another, each by a successor that is ready: no request is lost
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr reload api\n  pmr reload all --parallel 2\n  pmr reload api --update-env\n  pmr reload ecosystem.config.js"
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
    /// How many processes of one app are replaced at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
    /// Arguments of the app, in place of those it has
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs it.
pub async fn run(mut args: Args, cx: &Context) -> Result<Outcome, Failure> {
    args.flags.set_args(args.args);
    let revision = Revision::new(args.selectors, args.files, args.flags, args.update_env)?;
    revision
        .carry_out(
            Launch::OrReload { parallel: args.parallel },
            |changes| Action::Reload { changes, parallel: args.parallel },
            cx,
        )
        .await
}
