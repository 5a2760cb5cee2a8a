//! `reload`: replaces processes without a gap, as a transaction.

use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::revision::{Revision, RevisionArgs};
use crate::cli::whole_number;
use crate::protocol::{Action, Canary, Launch, Rollout, Share};
use crate::spec::value::parse_duration;

/// Replace processes one after another, each by a successor that is ready: no request is lost
#[derive(clap::Args, Debug)]
#[command(
    after_help = "When a successor dies or is not ready in time, the reload stops, the processes it has replaced are \
                  rolled back to the previous release, apps that depend on it are left as they are, and the exit code \
                  is 1. A process that is no cluster is stopped first. If the app has no proof of readiness, its first \
                  new process must run for its `min_uptime` before the others follow.\n\n\
                  Examples:\n  pmr reload api\n  pmr reload all --parallel 2\n  pmr reload api --update-env\n  \
                  pmr reload ecosystem.config.js --dry-run\n  pmr reload api --canary 25% --canary-for 1m"
)]
pub struct Args {
    #[command(flatten)]
    revision: RevisionArgs,
    /// Number of processes of one app that are replaced at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = whole_number::at_least_one)]
    parallel: u32,
    /// Start this number or share of successors first, beside the old processes, and observe them before the rest
    #[arg(long, value_name = "N|N%", value_parser = share)]
    canary: Option<Share>,
    /// How long the canaries are observed; if one exits, all of them are rolled back [default: 30s]
    #[arg(long, value_name = "TIME", requires = "canary", value_parser = canary_time)]
    canary_for: Option<Duration>,
    /// Continue after a failure, also with apps that depend on it, and also replace by successors that are not ready
    #[arg(short, long, conflicts_with = "canary")]
    force: bool,
    /// Show the plan and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// How long canaries are observed without `--canary-for`.
const CANARY_FOR: Duration = Duration::from_secs(30);

fn share(text: &str) -> Result<Share, &'static str> {
    Share::parse(text).ok_or("expected a number of processes, at least 1, or a percentage such as 25%")
}

fn canary_time(text: &str) -> Result<Duration, &'static str> {
    let time = parse_duration(text).filter(|time| !time.is_zero());
    time.ok_or("expected a time such as 30s, 5m or a number of milliseconds, and greater than 0")
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let Args { revision, parallel, canary, canary_for, force, dry_run } = args;
    let canary = canary.map(|share| Canary { share, duration: canary_for.unwrap_or(CANARY_FOR) });
    let rollout = Rollout { parallel, force, canary, dry_run };
    Revision::new(revision)?
        .carry_out(Launch::OrReload(rollout), |changes| Action::Reload { changes, rollout }, cx)
        .await
}
