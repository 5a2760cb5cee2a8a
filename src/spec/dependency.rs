//! Conditions on other apps that must be fulfilled before an app is started.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The condition on the other app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// One of its processes was started.
    Started,
    /// All its processes are ready, except those that are idle or stopped.
    #[default]
    Ready,
    /// As `Ready`, and all pass their health check.
    Healthy,
    /// All its processes ended by themselves, with code 0.
    Completed,
}

/// Conditions by app name; the apps are in the same namespace.
pub type Dependencies = BTreeMap<String, Condition>;

impl Condition {
    /// All conditions, from the weakest to the strongest.
    pub const ALL: [Condition; 4] = [Condition::Started, Condition::Ready, Condition::Healthy, Condition::Completed];

    /// The name in config files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Healthy => "healthy",
            Condition::Completed => "completed",
        }
    }

    /// The counterpart of [`Condition::word`].
    #[must_use]
    pub fn of_word(word: &str) -> Option<Condition> {
        Condition::ALL.into_iter().find(|condition| condition.word() == word)
    }

    /// The phrase after "waits for `db`": `to be ready`, `to complete`.
    #[must_use]
    pub fn awaited(self) -> &'static str {
        match self {
            Condition::Started => "to be started",
            Condition::Ready => "to be ready",
            Condition::Healthy => "to be healthy",
            Condition::Completed => "to complete",
        }
    }
}

/// Parses `db` (which means `db:ready`) or `db:healthy`. `None` if the part after the colon is no condition, or a name
/// is missing.
#[must_use]
pub fn parse(word: &str) -> Option<(String, Condition)> {
    let (name, condition) = match word.rsplit_once(':') {
        Some((name, condition)) => (name, Condition::of_word(condition.trim())?),
        None => (word, Condition::default()),
    };
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), condition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{AppSpec, RestartRule, sample};

    #[test]
    fn a_dependency_is_an_app_and_a_condition() {
        let read = |word| parse(word).map(|(name, condition)| (name, condition.word()));
        assert_eq!(read("db"), Some(("db".to_owned(), "ready")));
        assert_eq!(read(" db : healthy"), Some(("db".to_owned(), "healthy")));
        assert_eq!(read("a:b:completed"), Some(("a:b".to_owned(), "completed")));
        assert_eq!([read("db:helthy"), read(":ready"), read(""), read("db:")], [None, None, None, None]);
    }

    #[test]
    fn conditions_that_can_never_be_fulfilled_are_found() {
        let app = sample();
        let never = |app: &AppSpec| Condition::ALL.map(|condition| app.never(condition).is_some());
        assert_eq!(never(&app), [false, false, true, true]);
        let job = AppSpec { restart: RestartRule { autorestart: false, ..RestartRule::default() }, ..app.clone() };
        assert_eq!(never(&job), [false, false, true, false]);
        let until_done = AppSpec { restart: RestartRule { stop_exit_codes: vec![0], ..job.restart }, ..app };
        assert!(until_done.never(Condition::Completed).is_none());
    }
}
