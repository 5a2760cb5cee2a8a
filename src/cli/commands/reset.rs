//! `reset`: sets restart counters to zero.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, Outcome};
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Set the restart counters of processes to zero
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr reset api\n  pmr reset all")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    outcome::act_and_show(&cx.daemon().await?, Action::Reset, args.selectors, cx).await
}
