//! `completion`: what a shell needs to complete our commands.

use clap::CommandFactory;
use clap_complete::Shell;

use super::super::outcome::Outcome;
use super::super::{Cli, Context};

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  source <(pmr completion bash)\n  pmr completion zsh > ~/.zfunc/_pmr\n  \
                        pmr completion fish > ~/.config/fish/completions/pmr.fish")]
pub struct Args {
    /// bash, zsh or fish
    shell: Shell,
}

/// Runs it.
#[must_use]
pub fn run(args: &Args, cx: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pmr", &mut script);
    cx.ui.raw(&script);
    Outcome::Done
}
