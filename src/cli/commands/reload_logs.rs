//! `reloadLogs`: open log files anew, for rotation by others.

use super::super::Context;
use super::super::failure::Failure;
use super::super::outcome::{self, Outcome};
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Open the log files anew, after something else has renamed them
#[derive(clap::Args, Debug)]
#[command(after_help = "Example, in a logrotate file:\n  postrotate\n    pmr reloadLogs\n  endscript")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/; all if none is named
    #[arg(value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs it.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let report = cx.daemon().await?.act(Action::ReopenLogs, super::or_all(args.selectors)).await?;
    Ok(outcome::tell(&report, &[], cx))
}
