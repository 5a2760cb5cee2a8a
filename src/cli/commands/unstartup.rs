//! `unstartup`: removes the unit that `startup` installed.

use super::startup::{UnitArgs, carry_out, permitted};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::startup::{systemd, unit};

/// Disable and remove the unit of `startup`; running apps are not affected
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr unstartup\n  pmr unstartup -u ann")]
pub struct Args {
    #[command(flatten)]
    unit: UnitArgs,
}

/// Runs the command. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let boot = args.unit.boot(cx)?;
    if !permitted("unstartup", &boot, cx)? {
        return Ok(Outcome::Incomplete);
    }
    let file = unit::file(&boot);
    if !file.exists() {
        cx.ui.info(&format!("{} does not exist: nothing to remove", file.display()));
        return Ok(Outcome::Done);
    }
    carry_out(&systemd::disabling(&boot), cx)?;
    systemd::remove(&boot)?;
    cx.ui.info(&format!("removed {}", file.display()));
    carry_out(&systemd::forgetting(&boot), cx)?;
    Ok(Outcome::Done)
}
