//! Resolves the selectors of a command line: to processes, and config files to the apps in them.

use super::apps;
use super::config_file::is_config_file;
use super::failure::Failure;
use crate::protocol::ProcessInfo;
use crate::spec::target::{Candidate, Selector};

/// The selectors with config files replaced by the names of the apps in them.
pub fn expand_config_files(selectors: Vec<Selector>) -> Result<Vec<Selector>, Failure> {
    let mut expanded = Vec::with_capacity(selectors.len());
    for selector in selectors {
        match &selector {
            Selector::Word(word) if is_config_file(word) => {
                expanded.extend(apps::names_in(word)?.into_iter().map(Selector::Word));
            }
            _ => expanded.push(selector),
        }
    }
    Ok(expanded)
}

/// The selectors, or `all` if there are none.
#[must_use]
pub fn or_all(selectors: Vec<Selector>) -> Vec<Selector> {
    if selectors.is_empty() { vec![Selector::All] } else { selectors }
}

/// The processes that match one of the selectors, in the list's order.
pub fn matching<'a>(processes: &'a [ProcessInfo], selectors: &[Selector]) -> Vec<&'a ProcessInfo> {
    let candidate =
        |info: &'a ProcessInfo| Candidate { id: info.id, name: &info.name, namespace: &info.namespace, script: None };
    let candidates: Vec<Candidate<'_>> = processes.iter().map(candidate).collect();
    let chosen: Vec<u32> = selectors.iter().flat_map(|selector| selector.matches(&candidates)).collect();
    processes.iter().filter(|info| chosen.contains(&info.id)).collect()
}
