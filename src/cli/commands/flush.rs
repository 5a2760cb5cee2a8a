//! `flush`: empty log files.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, LogLengths, Outcome};
use crate::cli::selectors::or_all;
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Empty the log files of processes
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr flush        of all processes\n  pmr flush api")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/; all if none is named
    #[arg(value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let report = cx.daemon().await?.act(Action::Flush, or_all(args.selectors)).await?;
    Ok(outcome::print_report(&report, &[], &LogLengths::default(), cx))
}
