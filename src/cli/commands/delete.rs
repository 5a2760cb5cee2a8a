//! `delete`: stops processes and removes them from the list.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, Outcome};
use crate::cli::selectors::expand_config_files;
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Stop processes and remove them from the list; their logs stay
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr delete api\n  pmr delete 0 1\n  pmr delete /^test-/\n  pmr delete all")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/, a config file
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let target = expand_config_files(args.selectors)?;
    outcome::act_and_show(&cx.daemon().await?, Action::Delete, target, cx).await
}
