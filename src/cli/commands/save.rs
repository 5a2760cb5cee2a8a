//! `save`: what runs now is what `resurrect` brings back.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view::quantity::plural;

/// Write down what runs, for `resurrect` and the next boot
#[derive(clap::Args, Debug)]
#[command(
    after_help = "With `autosave` on, as it is unless `pmr set autosave off`, what runs comes back without it.\n\n\
                        Examples:\n  pmr save\n  pmr save --force    also if nothing runs"
)]
pub struct Args {
    /// Write an empty list, too
    #[arg(short, long)]
    force: bool,
}

/// Carries the command out. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let saved = cx.daemon().await?.save(args.force).await?;
    let (apps, processes) = (plural(saved.apps, "app"), plural(saved.processes, "process"));
    cx.ui.say(&format!("saved {apps} ({processes}) in {}", saved.path.display()));
    Ok(Outcome::Done)
}
