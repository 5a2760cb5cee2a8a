//! The verbs that act on processes: one enum for all of them, built by the command line, matched by the supervisor.

use serde::{Deserialize, Serialize};

use super::rollout::Rollout;
use crate::spec::Env;

/// What to do with the processes a command names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Start what is stopped or errored; restart what runs (as PM2 does with `start NAME`).
    Start(Changes),
    /// Stop and keep in the list.
    Stop,
    /// Stop, then start.
    Restart(Changes),
    /// Replace each process by a successor that is ready before the old one leaves. Fork-mode or stopped processes
    /// are restarted.
    Reload {
        /// What changes with it.
        changes: Changes,
        /// How it is to go.
        rollout: Rollout,
    },
    /// Stop and forget.
    Delete,
    /// Change the number of processes of the apps named.
    Scale(Scale),
    /// Set the restart counters to zero.
    Reset,
    /// Send a signal to the main process.
    Signal(i32),
    /// Truncate the log files.
    Flush,
    /// Close and open the log files again, after an external rotation.
    ReopenLogs,
}

impl Action {
    /// The verb as the user typed it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Start(_) => "start",
            Action::Stop => "stop",
            Action::Restart(_) => "restart",
            Action::Reload { .. } => "reload",
            Action::Delete => "delete",
            Action::Scale(_) => "scale",
            Action::Reset => "reset",
            Action::Signal(_) => "sendSignal",
            Action::Flush => "flush",
            Action::ReopenLogs => "reloadLogs",
        }
    }
}

/// What a start, restart or reload changes in the spec of the apps it touches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Settings by canonical key, validated by [`crate::spec::keys`] against the same table as config files.
    pub settings: Vec<(String, serde_json::Value)>,
    /// The caller's environment, with `--update-env`: replaces the old one as a whole.
    pub base_env: Option<Env>,
}

impl Changes {
    /// Nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.base_env.is_none()
    }
}

/// How many processes an app shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scale {
    /// To this number of processes.
    To(u32),
    /// This many more.
    Up(u32),
    /// This many fewer. At least one stays.
    Down(u32),
}

/// What `launch` does with an app that is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Launch {
    /// `start SCRIPT`: refuse if it runs, start it again with the new spec if it is stopped.
    New,
    /// `start` or `restart` of a config file: restart it with the new spec.
    OrRestart,
    /// `reload` of a config file: reload it with the new spec.
    OrReload(Rollout),
}
