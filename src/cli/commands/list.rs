//! `list`: the processes as a table.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::view::list::{Order, blocks, notes, table};
use crate::paths::Home;

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
    let (processes, remark) = match cx.daemon_if_any().await? {
        Some(daemon) => (daemon.list().await?, daemon.unsaved()),
        None => (Vec::new(), can_resurrect(&cx.home)),
    };
    let text = if args.mini_list {
        blocks(&processes, args.sort, cx.now())
    } else {
        table(&processes, args.sort, cx.now(), cx.ui.terminal())
    };
    cx.ui.line(&text);
    for note in notes(&processes).into_iter().chain(remark) {
        cx.ui.progress(&note);
    }
    Ok(Outcome::Done)
}

/// What to do about a list that is empty because the daemon has ended; `None` where none has run yet.
fn can_resurrect(home: &Home) -> Option<String> {
    let has_state = home.dump_file().exists() || home.journal().exists();
    has_state.then(|| "no daemon is running: `pmr resurrect` starts the apps that ran before".to_owned())
}
