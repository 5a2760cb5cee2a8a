//! `save`: what runs now is what `resurrect` brings back.

use super::super::Context;
use super::super::failure::Failure;
use super::super::outcome::Outcome;

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

/// Runs it.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let saved = cx.daemon().await?.save(args.force).await?;
    let (apps, processes) = (plural(saved.apps, "app"), plural(saved.processes, "process"));
    cx.ui.say(&format!("saved {apps} ({processes}) in {}", saved.path.display()));
    Ok(Outcome::Done)
}

/// `1 app`, `2 apps`, `2 processes`.
pub fn plural(count: u32, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ if word.ends_with('s') => format!("{count} {word}es"),
        _ => format!("{count} {word}s"),
    }
}
