//! `history`: the recorded events of apps.

use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::Outcome;
use crate::cli::{events_on_disk, view, whole_number};
use crate::spec::target::Selector;
use crate::spec::value;

/// Show what happened to apps: starts, exits, restarts, and who requested what
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The history is kept on disk within bounds (16 MB), also of deleted apps. No daemon is needed to read it.

Examples:
  pmr history
  pmr history api --since 1h
  pmr history --lines 0 --json | jq 'select(.event == \"exited\")'")]
pub struct Args {
    /// Names, namespaces, ids, /regular expressions/; all if there are none
    #[arg(value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
    /// Only events within this time: `90s`, `1h`, `2d`
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Duration>,
    /// At most this many events, the last ones; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = whole_number::count)]
    lines: usize,
    /// One JSON object a line, for programs
    #[arg(long)]
    json: bool,
    /// Also show values that look like secrets in command lines
    #[arg(long)]
    show_secrets: bool,
}

fn parse_since(text: &str) -> Result<Duration, String> {
    value::parse_duration(text).ok_or_else(|| format!("`{text}` is no time; write it like 90s, 30m, 1h or 2d"))
}

/// Runs the command. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let since = args.since.map_or(0, |span| cx.now().saturating_sub(u64::try_from(span.as_millis()).unwrap_or(0)));
    let events = events_on_disk::read(&cx.home, since, args.show_secrets)?;
    let mut events = events_on_disk::about(events, &args.selectors).map_err(|selector| {
        Failure::new(format!("there are no events of `{}`{}", selector.text(), within(args.since)))
            .hint("`pmr history` shows all events")
    })?;
    let limit = if args.lines == 0 { events.len() } else { args.lines };
    events.drain(..events.len().saturating_sub(limit));
    if args.json {
        let lines = events.iter().filter_map(|event| serde_json::to_string(event).ok());
        cx.ui.raw(lines.map(|line| line + "\n").collect::<String>().as_bytes());
    } else if events.is_empty() {
        cx.ui.info(&format!("nothing has happened{}", within(args.since)));
    } else {
        cx.ui.line(&view::history::text(&events, &cx.local_names(), cx.ui.terminal()));
    }
    Ok(Outcome::Done)
}

fn within(since: Option<Duration>) -> String {
    since.map_or_else(String::new, |span| format!(" in the last {}", view::quantity::uptime(span)))
}
