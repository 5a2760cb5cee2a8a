//! Selectors: how a command names processes, and which processes each selector matches.

use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A selector of processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// `all`
    All,
    /// `/regex/` on the name.
    Pattern(String),
    /// Anything else: a name, the path of a script, a namespace, or an id, tried in this order.
    Word(String),
}

/// The properties of a process that selectors compare.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: u32,
    /// Its app's name.
    pub name: &'a str,
    /// Its app's namespace.
    pub namespace: &'a str,
    /// Absolute path of its script, if it has one.
    pub script: Option<&'a Path>,
}

impl Selector {
    /// Parses one selector. The error about a pattern is a sentence.
    pub fn parse(text: &str) -> Result<Selector, String> {
        if text == "all" {
            return Ok(Selector::All);
        }
        match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) if !pattern.is_empty() => match Regex::new(pattern) {
                Ok(_) => Ok(Selector::Pattern(pattern.to_owned())),
                Err(error) => Err(format!("`{text}` is not a regular expression: {error}")),
            },
            _ => Ok(Selector::Word(text.to_owned())),
        }
    }

    /// The selector as the user wrote it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Selector::All => "all".to_owned(),
            Selector::Pattern(pattern) => format!("/{pattern}/"),
            Selector::Word(word) => word.clone(),
        }
    }

    /// Ids of the matching candidates, in their order.
    #[must_use]
    pub fn matches(&self, candidates: &[Candidate<'_>]) -> Vec<u32> {
        let ids = |test: &dyn Fn(&Candidate<'_>) -> bool| -> Vec<u32> {
            candidates.iter().filter(|candidate| test(candidate)).map(|candidate| candidate.id).collect()
        };
        match self {
            Selector::All => ids(&|_| true),
            Selector::Pattern(pattern) => match Regex::new(pattern) {
                Ok(regex) => ids(&|candidate| regex.is_match(candidate.name)),
                Err(_) => Vec::new(),
            },
            Selector::Word(word) => {
                let named = ids(&|candidate| {
                    candidate.name == word || candidate.script.is_some_and(|script| script == Path::new(word))
                });
                if !named.is_empty() {
                    return named;
                }
                let spaced = ids(&|candidate| candidate.namespace == word);
                if !spaced.is_empty() {
                    return spaced;
                }
                match word.parse::<u32>() {
                    Ok(id) => ids(&|candidate| candidate.id == id),
                    Err(_) => Vec::new(),
                }
            }
        }
    }
}

/// The processes that match any of the selectors, each once, in the order of the selectors; or the first selector
/// without a match.
pub fn select<'a>(selectors: &'a [Selector], candidates: &[Candidate<'_>]) -> Result<Vec<u32>, &'a Selector> {
    let mut chosen = Vec::new();
    for selector in selectors {
        let matched = selector.matches(candidates);
        if matched.is_empty() {
            return Err(selector);
        }
        for id in matched {
            if !chosen.contains(&id) {
                chosen.push(id);
            }
        }
    }
    Ok(chosen)
}

/// Up to three names similar to `word`.
#[must_use]
pub fn similar(word: &str, names: &[&str]) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> =
        names.iter().map(|name| (strsim::jaro_winkler(word, name), *name)).filter(|(score, _)| *score > 0.8).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}
