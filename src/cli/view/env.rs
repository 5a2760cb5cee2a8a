//! The environment of a process: inherited variables, declared ones, and those that pmr added.

use std::collections::btree_map;
use std::iter::Peekable;

use super::secret::Redactor;
use super::{TITLE, Terminal};
use crate::protocol::Description;
use crate::spec::Env;

type Pairs<'a> = Peekable<btree_map::Iter<'a, String, String>>;

/// The variables of a process, sorted by name. If several sources have the same variable, pmr's own value wins, then
/// the declared one, then the inherited one. The sources are sorted, so nothing is built or copied.
pub fn of(described: &Description) -> impl Iterator<Item = (&str, &str)> {
    merged([&described.own_env, &described.spec.env, &described.spec.base_env])
}

/// Merges the sources by name; earlier sources win.
fn merged<const N: usize>(strongest_first: [&Env; N]) -> impl Iterator<Item = (&str, &str)> {
    let mut sources: [Pairs<'_>; N] = strongest_first.map(|env| env.iter().peekable());
    std::iter::from_fn(move || {
        let next = sources.iter_mut().filter_map(|source| source.peek().map(|(name, _)| *name)).min()?;
        let mut winner = None;
        for source in &mut sources {
            let found = source.next_if(|(name, _)| *name == next);
            winner = winner.or(found);
        }
        winner.map(|(name, value)| (name.as_str(), value.as_str()))
    })
}

/// `NAME: value` lines; with several processes, each under its own title.
#[must_use]
pub fn text(described: &[Description], show_secrets: bool, terminal: Terminal) -> String {
    let mut redactor = Redactor::new(show_secrets);
    let mut lines = Vec::new();
    for one in described {
        if described.len() > 1 {
            lines.push(terminal.paint(TITLE, &format!("[{}]({})", one.info.name, one.info.id)));
        }
        lines.extend(of(one).map(|(name, value)| format!("{name}: {}", redactor.shown(name, value))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::protocol::Described;

    #[test]
    fn a_shared_environment_is_sent_once_and_restored_for_each_process() {
        let one = sample::description();
        let mut other = sample::description();
        other.spec.base_env = std::sync::Arc::default();
        let all = vec![one.clone(), one.clone(), other, one];
        let sent = serde_json::to_string(&Described::from(all.clone())).unwrap();
        assert_eq!(sent.matches("/home/ann").count(), 1, "{sent}");
        let received: Described = serde_json::from_str(&sent).unwrap();
        assert_eq!(Vec::from(received), all);
    }

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pmrs_variables_win_over_declared_and_inherited_ones() {
        let (own, declared, base) = (
            env(&[("B", "own")]),
            env(&[("A", "declared"), ("B", "no")]),
            env(&[("A", "no"), ("B", "no"), ("C", "base")]),
        );
        let all: Vec<_> = merged([&own, &declared, &base]).collect();
        assert_eq!(all, [("A", "declared"), ("B", "own"), ("C", "base")]);
    }
}
