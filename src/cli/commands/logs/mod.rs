//! `logs`: the last lines of log files, then new ones, also of processes and daemons that start meanwhile.
//!
//! This process reads the files; the daemon only reports which files there are.

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

/// Runs `logs`. Without a daemon, the daemon's log can still be read, and the command can wait for a daemon.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let selection = Selection::parse(&args.selectors)?;
    if args.nostream {
        show(&args, &selection, cx).await?;
    } else {
        follow(&args, &selection, cx).await?;
    }
    Ok(Outcome::Done)
}

/// Shows the last lines and exits.
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
    unless_broken_pipe(view.map(drop))
}

/// Shows the last lines and those that are appended, also by processes and daemons that start meanwhile.
async fn follow(args: &Args, selection: &Selection, cx: &Context) -> Result<(), Failure> {
    let ends = Ends::of(&cx.home.logs()).doing(|| format!("reading {}", cx.home.logs().display()))?;
    let (mut new_processes, processes) = NewProcesses::open(selection, cx).await?;
    match &processes {
        Some(processes) => selection.check(processes)?,
        None if selection.is_all() => {
            cx.ui.progress(&format!("no daemon is running for {}: waiting for one", cx.home.root().display()));
        }
        None => return Err(Failure::no_daemon(cx.home.root())),
    }
    let followed = async {
        let files = selection.files(processes.as_deref().unwrap_or_default(), &cx.home);
        let mut view = Display::open(args, files, cx.ui.screen())?;
        if processes.is_some() && view.lacks_lines() {
            cx.ui.progress("nothing has been logged yet: waiting for new lines");
        }
        view.wake_for(&cx.home.pub_sock())?;
        // The first round finds what was made before the files were watched.
        loop {
            if let Some(processes) = new_processes.processes().await {
                view.add_files(selection.files(&processes, &cx.home), &ends)?;
            }
            if view.show_new(new_processes.descriptor())? == WakeReason::HungUp {
                return Ok(());
            }
        }
    };
    unless_broken_pipe(followed.await)
}

/// The result, except that a closed reader (`pmr logs | head`) is no failure.
fn unless_broken_pipe(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.doing(|| "reading the logs".into()),
    }
}
