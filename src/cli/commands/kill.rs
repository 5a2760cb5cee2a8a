//! `kill`: stops all apps and ends the daemon.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, LogLengths, Outcome};
use crate::cli::shutdown;
use crate::cli::view::quantity::plural;
use crate::protocol::Verdict;

/// Stop all apps and end the daemon; `resurrect` starts them again
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  pmr kill    and later: pmr resurrect")]
pub struct Args {}

/// Runs the command. The outcome decides the exit code.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let Some(client) = cx.daemon_if_any().await? else {
        cx.ui.info(&format!("no daemon is running for {}: nothing to do", cx.home.root().display()));
        return Ok(Outcome::Done);
    };
    let pid = client.hello().await?.pid;
    let report = shutdown::end(&client, &cx.home).await?;
    let stopped = report.lines.iter().filter(|line| line.verdict == Verdict::Done).count();
    let stopped = match stopped {
        0 => String::new(),
        some => format!("{} stopped; ", plural(u32::try_from(some).unwrap_or(u32::MAX), "process")),
    };
    let outcome = if report.succeeded() {
        Outcome::Done
    } else {
        outcome::print_report(&report, &[], &LogLengths::default(), cx)
    };
    cx.ui.info(&format!("{stopped}the daemon (pid {pid}) has ended"));
    Ok(outcome)
}
