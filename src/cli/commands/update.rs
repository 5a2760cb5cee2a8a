//! `update`: replaces the daemon's program while every app runs on.

use std::path::PathBuf;

use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::cli::outcome::Outcome;
use crate::cli::view::exit_words;
use crate::cli::view::quantity::plural;
use crate::protocol::{Hello, Upgraded};

/// Replace the daemon by this version of pmr (or another program); no app is stopped, no request is lost
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The new program must be able to read the daemon's state; this is checked first. If it dies in its first seconds, the
old program continues. Connections and log lines wait during the replacement.

Examples:
  pmr update              after a new pmr was installed
  pmr update --check      only check whether it is possible")]
pub struct Args {
    /// Only check whether the program can take over
    #[arg(long)]
    check: bool,
    /// Another program than this one
    #[arg(value_name = "PROGRAM")]
    program: Option<PathBuf>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let program = match args.program {
        Some(program) => std::path::absolute(&program).doing(|| format!("finding {}", program.display()))?,
        None => std::env::current_exe().doing(|| "finding this program".into())?,
    };
    let client = cx.daemon().await?;
    let before = client.hello_unchecked().await?;
    let successor = client.upgrade(program.clone(), args.check).await?;
    let runs = plural(successor.runs, "process");
    if args.check {
        cx.ui.line(&format!(
            "{} (version {}) can take over: {runs} would run on",
            program.display(),
            successor.version
        ));
        return Ok(Outcome::Done);
    }
    let (after, upgraded) = wait_for_upgrade(&before, cx).await?;
    let unchanged = format!("; version {} continues, and no app was touched", after.version);
    match upgraded {
        Upgraded::Done { gap_ms, runs } => {
            let runs = plural(runs, "process");
            cx.ui.info(&format!(
                "the daemon (pid {}) went from version {} to {}; {runs} ran on; the replacement took {gap_ms} ms",
                after.pid, before.version, after.version
            ));
            Ok(Outcome::Done)
        }
        Upgraded::NotExecuted => Err(Failure::new(format!("{} could not be executed{unchanged}", program.display()))),
        Upgraded::Failed { exit } => {
            let how = exit.map_or_else(|| "died".to_owned(), |exit| format!("died ({})", exit_words(exit)));
            Err(Failure::new(format!(
                "the daemon of version {} {how} in its first seconds{unchanged}",
                successor.version
            ))
            .hint(format!("see {}", cx.home.daemon_log().display())))
        }
        Upgraded::NotAsked => Err(Failure::new(format!("the daemon was replaced meanwhile{unchanged}"))),
    }
}

/// Waits for the end of the upgrade probation. A God that dies in it ends the connection, and the next one answers.
async fn wait_for_upgrade(before: &Hello, cx: &Context) -> Result<(Hello, Upgraded), Failure> {
    const MOST_GODS: u64 = 8;
    loop {
        let client = Client::connect(&cx.home, cx.ui).await?;
        let answers = async { Ok::<_, Failure>((client.hello_unchecked().await?, client.upgraded().await?)) };
        match answers.await {
            Ok((now, upgraded)) if now.generation > before.generation => return Ok((now, upgraded)),
            // This is still the previous God, about to be replaced.
            Ok(_) => tokio::task::yield_now().await,
            Err(failure) => match client.hello_unchecked().await {
                Ok(now) if now.generation > before.generation + MOST_GODS => return Err(failure),
                Ok(_) | Err(_) => {}
            },
        }
    }
}
