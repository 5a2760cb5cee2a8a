//! Why the daemon refuses a request: expected errors, typed, with a sentence and a hint for the user.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A request that was turned down as a whole; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No process matches this selector.
    NoMatch {
        /// As the user wrote it.
        selector: String,
        /// Names that are close to it.
        similar: Vec<String>,
    },
    /// `all` with nothing in the list.
    Empty,
    /// The app is running already.
    AlreadyRunning {
        /// Name of the app.
        name: String,
        /// Id of its first process.
        id: u32,
    },
    /// The app is scaled to what it has.
    NothingToDo {
        /// Name of the app.
        name: String,
        /// How many processes it has.
        instances: u32,
    },
    /// A count that makes no sense.
    BadCount {
        /// What was wrong with it.
        why: String,
    },
    /// A setting that does not hold.
    BadSetting {
        /// The setting by its canonical key.
        key: String,
        /// What was wrong with it.
        why: String,
    },
    /// The list is empty and would overwrite a saved one.
    NothingToSave,
    /// There is no saved list.
    NothingSaved {
        /// Where it was looked for.
        path: String,
    },
    /// A file or system call failed.
    Failed {
        /// What was being done, to what.
        doing: String,
        /// The operating system's error text.
        error: String,
    },
    /// The daemon is on its way out.
    ShuttingDown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoMatch { selector, .. } => write!(f, "no process or namespace matches `{selector}`"),
            Refusal::Empty => write!(f, "there are no processes"),
            Refusal::AlreadyRunning { name, id } => write!(f, "the app `{name}` is running already (id {id})"),
            Refusal::NothingToDo { name, instances } => {
                let processes = if *instances == 1 { "process" } else { "processes" };
                write!(f, "`{name}` has {instances} {processes} already: nothing to do")
            }
            Refusal::BadCount { why } => write!(f, "{why}"),
            Refusal::BadSetting { key, why } => write!(f, "`{key}`: {why}"),
            Refusal::NothingToSave => write!(f, "the process list is empty, and saving it would forget the saved one"),
            Refusal::NothingSaved { path } => write!(f, "nothing has been saved: {path} does not exist"),
            Refusal::Failed { doing, error } => write!(f, "{doing}: {error}"),
            Refusal::ShuttingDown => write!(f, "the daemon is shutting down"),
        }
    }
}

impl Refusal {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Refusal::NoMatch { similar, .. } if !similar.is_empty() => {
                Some(format!("did you mean {}?", similar.join(" or ")))
            }
            Refusal::NoMatch { .. } => Some("`pmr list` shows what there is".into()),
            Refusal::Empty => Some("`pmr start app.js` starts one".into()),
            Refusal::AlreadyRunning { name, .. } => Some(format!(
                "`pmr restart {name}` restarts it, `pmr reload {name}` does so without a gap, `--name` starts a second one"
            )),
            Refusal::NothingToSave => Some("`pmr save --force` saves the empty list".into()),
            Refusal::NothingSaved { .. } => Some("`pmr save` writes the list of what runs".into()),
            Refusal::ShuttingDown => Some("wait a moment and try again: the next command starts a new daemon".into()),
            Refusal::NothingToDo { .. }
            | Refusal::BadCount { .. }
            | Refusal::BadSetting { .. }
            | Refusal::Failed { .. } => None,
        }
    }
}

impl std::error::Error for Refusal {}
