//! `list`: the processes as a table.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view::list::{Order, blocks, notes, table};

/// Show the processes
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr list\n  pmr ls --sort memory:desc")]
pub struct Args {
    /// Sort by name, id, pid, cpu, memory, uptime, status, …, with `:desc` for the greatest first
    #[arg(long, value_name = "FIELD", default_value = "name", hide_default_value = true)]
    sort: Order,
    /// A block of lines for each process instead of a table
    #[arg(short, long)]
    mini_list: bool,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let (processes, unsaved) = match cx.daemon_if_any().await? {
        Some(daemon) => (daemon.list().await?, daemon.unsaved()),
        None => (Vec::new(), None),
    };
    let text = if args.mini_list {
        blocks(&processes, args.sort, cx.now())
    } else {
        table(&processes, args.sort, cx.now(), cx.ui.terminal())
    };
    cx.ui.line(&text);
    for note in notes(&processes).into_iter().chain(unsaved) {
        cx.ui.progress(&note);
    }
    Ok(Outcome::Done)
}
