//! `kill`: stop everything and end the daemon.

use std::time::Duration;

use super::super::Context;
use super::super::client::Client;
use super::super::failure::Failure;
use super::super::outcome::{self, Lengths, Outcome};
use super::save::plural;
use crate::os::process::pidfd;
use crate::paths::Home;
use crate::protocol::{Report, Verdict};

/// How long a daemon that has stopped its apps may take to end.
const LEAVING: Duration = Duration::from_secs(30);

/// Stop all apps and end the daemon; `resurrect` brings them back
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  pmr kill    and later: pmr resurrect")]
pub struct Args {}

/// Runs it.
pub async fn run(_args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let Some(client) = cx.daemon_if_any().await? else {
        cx.ui.say(&format!("no daemon is running for {}: nothing to do", cx.home.root().display()));
        return Ok(Outcome::Done);
    };
    let pid = client.hello().await?.pid;
    let report = end(&client, &cx.home).await?;
    let stopped = report.lines.iter().filter(|line| line.verdict == Verdict::Done).count();
    let stopped = match stopped {
        0 => String::new(),
        some => format!("{} stopped; ", plural(u32::try_from(some).unwrap_or(u32::MAX), "process")),
    };
    let outcome = if report.succeeded() { Outcome::Done } else { outcome::tell(&report, &[], &Lengths::default(), cx) };
    cx.ui.say(&format!("{stopped}the daemon (pid {pid}) has ended"));
    Ok(outcome)
}

/// Stops every app, ends the daemon, and returns when its process is gone.
pub async fn end(client: &Client, home: &Home) -> Result<Report, Failure> {
    let pid = client.hello().await?.pid;
    // Held from before it is told to end, so that it is this process and no later one of the same pid.
    let process = pidfd::open(pid).ok();
    let report = client.shut_down().await?;
    // Nothing else happens meanwhile, so the thread itself may wait.
    if process.is_some_and(|process| !pidfd::ends_within(process, LEAVING)) {
        return Err(Failure::new(format!("the daemon (pid {pid}) stopped its apps, but does not end"))
            .hint(format!("see {}", home.daemon_log().display())));
    }
    Ok(report)
}
