//! `doctor`: checks which features of pmr this machine supports.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view;
use crate::doctor::{self, Health};

/// Check which features this machine supports, and show how to enable the rest; needs no daemon and changes nothing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The exit code is 1 only if something is missing that pmr needs.

Examples:
  pmr doctor
  pmr doctor --json | jq '.[] | select(.health != \"good\")'")]
pub struct Args {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Runs the command. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let findings = doctor::examine(cx.home.root(), &std::env::var("PATH").unwrap_or_default());
    if args.json {
        cx.ui.line(&serde_json::to_string(&findings).map_err(|error| Failure::new(error.to_string()))?);
    } else {
        cx.ui.line(&view::doctor::text(&findings, cx.ui.terminal()));
    }
    let missing = findings.iter().any(|finding| finding.health == Health::Missing);
    Ok(if missing { Outcome::Incomplete } else { Outcome::Done })
}
