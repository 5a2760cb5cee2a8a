//! `explain`: why an app is in its state.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::last_lines::last_lines;
use crate::cli::outcome::Outcome;
use crate::cli::{events_on_disk, view};
use crate::protocol::Description;
use crate::spec::target::Selector;

/// Number of lines shown of each error log.
const LAST_LINES: usize = 10;

/// Explain the state of apps: their last exits and the causes, who requested what, and what comes next
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr explain api\n  pmr explain all")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
    /// Also show values that look like secrets in command lines
    #[arg(long)]
    show_secrets: bool,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let described = cx.daemon().await?.describe(args.selectors).await?;
    let events = events_on_disk::read(&cx.home, 0, args.show_secrets)?;
    let pages: Vec<String> = apps(described).iter().map(|app| page(app, &events, cx)).collect();
    cx.ui.line(&pages.join("\n\n"));
    Ok(Outcome::Done)
}

/// Groups processes by app.
fn apps(described: Vec<Description>) -> Vec<Vec<Description>> {
    let mut apps: Vec<Vec<Description>> = Vec::new();
    let same = |app: &[Description], one: &Description| {
        app.first().is_some_and(|first| first.info.name == one.info.name && first.info.namespace == one.info.namespace)
    };
    for one in described {
        match apps.iter_mut().find(|app| same(app, &one)) {
            Some(app) => app.push(one),
            None => apps.push(vec![one]),
        }
    }
    apps
}

fn page(app: &[Description], events: &[crate::protocol::Event], cx: &Context) -> String {
    let first = &app[0].info;
    let concerns = |event: &&crate::protocol::Event| {
        event.process.as_ref().is_some_and(|about| about.name == first.name && about.namespace == first.namespace)
    };
    let events: Vec<_> = events.iter().filter(concerns).cloned().collect();
    let mut last_output: Vec<(String, Vec<String>)> = Vec::new();
    // Several processes can share an error log.
    let logs: BTreeSet<&Path> = app.iter().filter_map(|one| one.info.err_log.as_deref()).collect();
    for path in logs {
        let lines = last_lines(path, LAST_LINES);
        if !lines.is_empty() {
            let at = written(path, cx).map_or_else(String::new, |at| format!(" ({at})"));
            last_output.push((format!("{}{at}", path.display()), lines));
        }
    }
    let record = view::explain::AppRecord { processes: app, events: &events, last_output: &last_output, now: cx.now() };
    view::explain::text(&record, &cx.local_names(), cx.ui.terminal())
}

/// Time of the last write to a file: its last lines may be of an old run.
fn written(path: &Path, cx: &Context) -> Option<String> {
    let at = std::fs::metadata(path).and_then(|file| file.modified()).ok()?;
    let at = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(cx.local_names().time(u64::try_from(at).ok()?))
}
