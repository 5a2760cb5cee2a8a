//! `id`: which ids an app has.

use super::super::Context;
use super::super::failure::Failure;
use super::super::outcome::Outcome;
use crate::protocol::ProcessInfo;
use crate::spec::target::{Candidate, Selector};

/// Show the ids of processes, as `[ 0, 1 ]`; `[]` if there are none
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  pmr id api")]
pub struct Args {
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs it.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let processes = cx.daemon().await?.list().await?;
    let ids: Vec<String> = matching(&processes, &args.selectors).iter().map(|info| info.id.to_string()).collect();
    let text = if ids.is_empty() { "[]".to_owned() } else { format!("[ {} ]", ids.join(", ")) };
    cx.ui.line(&text);
    Ok(Outcome::Done)
}

/// The processes that any of the selectors names, in the list's order.
pub fn matching<'a>(processes: &'a [ProcessInfo], selectors: &[Selector]) -> Vec<&'a ProcessInfo> {
    let candidate =
        |info: &'a ProcessInfo| Candidate { id: info.id, name: &info.name, namespace: &info.namespace, script: None };
    let candidates: Vec<Candidate<'_>> = processes.iter().map(candidate).collect();
    let chosen: Vec<u32> = selectors.iter().flat_map(|selector| selector.matches(&candidates)).collect();
    processes.iter().filter(|info| chosen.contains(&info.id)).collect()
}
