//! What is known of one process. Only this is written down.

use serde::{Deserialize, Serialize};

use super::health_state::HealthState;
use super::listen_addresses::ListenAddresses;
use super::promotion::Promotion;
use super::replace_backoff::ReplaceBackoff;
use super::stopping_run::StoppingRun;
use crate::protocol::{Exit, Run};
use crate::supervisor::id::{AppId, ProcessId};
use crate::supervisor::moment::Moment;
use crate::supervisor::restart::History;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It shall run.
    Up,
    /// It shall not run.
    Down,
    /// It shall not run, and it is removed from the list when nothing of it runs.
    Gone,
}

/// What a process does: which runs it has, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No run, and none is started before a request.
    Stopped,
    /// A run was started and is not ready yet.
    Launching {
        /// The run that is starting.
        run: Run,
        /// When it was started.
        since: Moment,
        /// When waiting for its readiness ends; `None`: it may take for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready_by: Option<Moment>,
        /// The run it is to replace, which still serves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<Serving>,
        /// What it must prove before it takes over from that run.
        #[serde(default, rename = "takeover", skip_serializing_if = "Promotion::is_default")]
        promotion: Promotion,
    },
    /// A successor is ready and is observed; both serve.
    #[serde(rename = "trial")]
    Canary {
        /// The successor under observation.
        new: Serving,
        /// The run that serves on if it is no good.
        old: Serving,
    },
    /// A run is ready.
    Online(Serving),
    /// A run is stopping, or its main process ended and left other processes behind.
    Stopping(StoppingRun),
    /// The next start waits.
    Waiting {
        /// When the next run starts.
        until: Moment,
    },
    /// No client is connected: nothing runs until the next connection.
    Idle,
    /// Given up after too many unstable exits or a start that cannot work; only a request starts it again.
    Errored,
}

/// A run that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The run, which is ready.
    pub run: Run,
    /// When it was started.
    pub since: Moment,
    /// True if it proved ready, false if waiting for proof merely ended: such an app gives none, so no successor need.
    pub proven: bool,
    /// When the run is taken for hung, unless it sends a watchdog ping before. `None` without a watchdog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_until: Option<Moment>,
}

/// A supervised process, as it is kept in its record. A field that the record leaves out has the value of a new
/// process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// PM2's `pm_id`.
    pub id: ProcessId,
    /// The app it belongs to.
    pub app: AppId,
    /// Its number among the processes of the app, from 0. A successor in its place has the same.
    pub instance: u32,
    /// What the operator wants.
    pub goal: Goal,
    /// What it does now.
    pub state: State,
    /// Runs replaced or failed, until the last of their trees is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<StoppingRun>,
    /// Restarts since creation or reset.
    #[serde(default)]
    pub restarts: u32,
    /// When it was added or reset.
    pub created: Moment,
    /// When the last run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Moment>,
    /// How the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// True if it does not run since it has done what it was for: it ended by itself, with code 0, for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub completed: bool,
    /// Why it does not run, or why the last launch failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The bind or listen that failed in the current run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    /// True from a launch that failed until the next launch that a client requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub launch_failed: bool,
    /// What the restart decision remembers.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
    /// When the supervisor may next replace it of its own accord.
    #[serde(default, rename = "patience", skip_serializing_if = "ReplaceBackoff::is_default")]
    pub replace_backoff: ReplaceBackoff,
    /// What health checks found of the newest run.
    #[serde(default, rename = "condition", skip_serializing_if = "HealthState::is_default")]
    pub health: HealthState,
    /// What health checks found of its predecessor, which serves beside it in a reload.
    #[serde(default, rename = "predecessor", skip_serializing_if = "HealthState::is_default")]
    pub predecessor_health: HealthState,
    /// Where its runs listen.
    #[serde(default, rename = "whereabouts", skip_serializing_if = "ListenAddresses::is_default")]
    pub listen_addresses: ListenAddresses,
}

impl Process {
    /// A process that was just added, down.
    #[must_use]
    pub fn new(id: ProcessId, app: AppId, instance: u32, now: Moment) -> Process {
        Process {
            id,
            app,
            instance,
            goal: Goal::Down,
            state: State::Stopped,
            retiring: Vec::new(),
            restarts: 0,
            created: now,
            started: None,
            last_exit: None,
            completed: false,
            reason: None,
            obstacle: None,
            launch_failed: false,
            history: History::default(),
            replace_backoff: ReplaceBackoff::default(),
            health: HealthState::default(),
            predecessor_health: HealthState::default(),
            listen_addresses: ListenAddresses::default(),
        }
    }

    /// True if nothing of it runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs().next().is_none()
    }

    /// True if it runs, or is about to.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !matches!(self.state, State::Stopped | State::Errored)
    }

    /// True if it has done what it was for, and nothing of it is left.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.completed && self.state == State::Stopped
    }

    /// True if a run was started that neither failed nor is stopping.
    #[must_use]
    pub fn was_started(&self) -> bool {
        matches!(self.state, State::Launching { .. }) || self.serves() || self.rests()
    }

    /// True if what is on its way out does not end, whatever is sent to it.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(&self.state, State::Stopping(stopping) if stopping.is_stuck())
    }

    /// Every run of it that may be alive.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let leaving = match &self.state {
            State::Stopping(stopping) => Some(stopping.run),
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => None,
        };
        self.staying().chain(leaving).chain(self.retiring.iter().map(|stopping| stopping.run))
    }

    /// The run that answers for it at the moment, the old one while its successor is not ready; none once its main
    /// process has ended, whatever else of its tree lives.
    #[must_use]
    pub fn current_run(&self) -> Option<Run> {
        match &self.state {
            State::Launching { run, old, .. } => Some(old.map_or(*run, |old| old.run)),
            State::Online(serving) | State::Canary { new: serving, .. } => Some(serving.run),
            State::Stopping(stopping) => stopping.exit.is_none().then_some(stopping.run),
            State::Stopped | State::Waiting { .. } | State::Idle | State::Errored => None,
        }
    }

    /// True if a ready run of it is in the rotation.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.state, State::Online(_) | State::Canary { .. } | State::Launching { old: Some(_), .. })
    }

    /// True if it was put to rest and not needed since.
    #[must_use]
    pub fn rests(&self) -> bool {
        match &self.state {
            State::Idle => true,
            State::Stopping(stopping) => stopping.rests,
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Errored => false,
        }
    }

    /// When [`Process::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let own = match &self.state {
            State::Launching { ready_by, .. } => *ready_by,
            State::Stopping(stopping) => Some(stopping.deadline()),
            State::Waiting { until } => Some(*until),
            State::Online(_) | State::Canary { .. } => self.silent().map(|(until, _)| until),
            State::Stopped | State::Idle | State::Errored => None,
        };
        own.into_iter().chain(self.retiring.iter().map(StoppingRun::deadline)).min()
    }

    pub(super) fn stopping_mut(&mut self, run: Run) -> Option<&mut StoppingRun> {
        let current = match &mut self.state {
            State::Stopping(stopping) => Some(stopping),
            State::Stopped
            | State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => None,
        };
        current.into_iter().chain(&mut self.retiring).find(|stopping| stopping.run == run)
    }
}
