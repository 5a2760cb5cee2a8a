//! `completion`: prints completion scripts for shells.

use clap_complete::Shell;

use crate::cli::context::Context;
use crate::cli::outcome::Outcome;

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  source <(pmr completion bash)\n  pmr completion zsh > ~/.zfunc/_pmr\n  \
                        pmr completion fish > ~/.config/fish/completions/pmr.fish")]
pub struct Args {
    /// bash, zsh or fish
    shell: Shell,
}

/// Runs the command. The outcome decides the exit code.
#[must_use]
pub fn run(args: &Args, mut grammar: clap::Command, cx: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar, "pmr", &mut script);
    cx.ui.raw(&script);
    Outcome::Done
}
