//! `save`: writes the list of processes that `resurrect` starts.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view::quantity::plural;

/// Save the list of processes, for `resurrect` and the next boot
#[derive(clap::Args, Debug)]
#[command(
    after_help = "With `autosave` on (the default), the processes that run are started after a reboot without it.\n\n\
                        Examples:\n  pmr save\n  pmr save --force    also if the list is empty"
)]
pub struct Args {
    /// Also save an empty list
    #[arg(short, long)]
    force: bool,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let saved = cx.daemon().await?.save(args.force).await?;
    let (apps, processes) = (plural(saved.apps, "app"), plural(saved.processes, "process"));
    cx.ui.info(&format!("saved {apps} ({processes}) in {}", saved.path.display()));
    Ok(Outcome::Done)
}
