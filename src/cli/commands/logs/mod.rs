//! `logs`: the last lines of log files, then what comes, also from processes and daemons that start meanwhile.
//!
//! The files are read by this process; the daemon only says which there are.

mod args;
mod display;
mod new_processes;
mod printer;
mod selection;

use std::io;

pub use self::args::Args;
use self::display::Display;
use self::new_processes::NewProcesses;
use self::selection::Selection;
use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::cli::outcome::Outcome;
use crate::logs::tail::{Ends, WakeReason};

/// Runs `logs`. Without a daemon its own log can still be read, and a daemon to come be waited for.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let selection = Selection::parse(&args.selectors)?;
    if args.nostream {
        show(&args, &selection, cx).await?;
    } else {
        follow(&args, &selection, cx).await?;
    }
    Ok(Outcome::Done)
}

/// Shows the last lines and ends.
async fn show(args: &Args, selection: &Selection, cx: &Context) -> Result<(), Failure> {
    let processes = match cx.daemon_if_any().await? {
        Some(daemon) => daemon.list().await?,
        None if selection.daemon && cx.home.daemon_log().exists() => Vec::new(),
        None => return Err(Failure::no_daemon(cx.home.root())),
    };
    selection.check(&processes)?;
    let view = Display::open(args, selection.files(&processes, &cx.home), cx.ui.screen());
    if view.as_ref().is_ok_and(Display::lacks_lines) {
        cx.ui.progress("nothing has been logged yet");
    }
    or_reader_gone(view.map(drop))
}

/// Shows the last lines and what is appended, also by processes and daemons that start meanwhile.
async fn follow(args: &Args, selection: &Selection, cx: &Context) -> Result<(), Failure> {
    let ends = Ends::of(&cx.home.logs()).doing(|| format!("reading {}", cx.home.logs().display()))?;
    let (mut new_processes, processes) = NewProcesses::open(selection, cx).await?;
    match &processes {
        Some(processes) => selection.check(processes)?,
        None if selection.is_anybody() => {
            cx.ui.progress(&format!("no daemon is running for {}: waiting for one", cx.home.root().display()));
        }
        None => return Err(Failure::no_daemon(cx.home.root())),
    }
    let followed = async {
        let files = selection.files(processes.as_deref().unwrap_or_default(), &cx.home);
        let mut view = Display::open(args, files, cx.ui.screen())?;
        if processes.is_some() && view.lacks_lines() {
            cx.ui.progress("nothing has been logged yet: waiting for what comes");
        }
        view.wake_for(&cx.home.pub_sock())?;
        // The first look is for what came to be before we were watching.
        loop {
            if let Some(processes) = new_processes.processes().await {
                view.meet(selection.files(&processes, &cx.home), &ends)?;
            }
            if view.turn(new_processes.descriptor())? == WakeReason::HungUp {
                return Ok(());
            }
        }
    };
    or_reader_gone(followed.await)
}

/// The result, where output whose reader is gone (`pmr logs | head`) is no failure.
fn or_reader_gone(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.doing(|| "reading the logs".into()),
    }
}
