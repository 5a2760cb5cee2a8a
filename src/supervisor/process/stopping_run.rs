//! A run that stops: drain, stop signal, SIGKILL, each with its deadline.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::transition::Transition;
use crate::protocol::{Exit, Run};
use crate::spec::{ExecMode, value};
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;

/// How often SIGKILL is repeated while something of the tree lives: a program may fork as we kill.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// After so many without effect the stop is reported as failed: the kernel holds the process in an uninterruptible
/// wait.
const KILLS_IN_VAIN: u32 = 10;

/// A run that stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppingRun {
    /// The run, which no longer takes new connections.
    pub run: Run,
    /// When it was started.
    pub since: Moment,
    /// How far it is.
    pub stage: StopStage,
    /// How its main process ended, once it has; processes of its tree live on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// How long its main process lived, if it ended by itself and what is left of its tree is being removed.
    #[serde(with = "value::millis_option", default, skip_serializing_if = "Option::is_none")]
    pub unasked: Option<Duration>,
    /// True if the run is stopped because it hung.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hung: bool,
    /// True if the process becomes idle afterwards, until a client connects.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rests: bool,
}

/// The stage of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopStage {
    /// Out of rotation, finishing what it has.
    Draining {
        /// When the stop signal follows at the latest.
        until: Moment,
    },
    /// The stop signal was sent.
    Terminating {
        /// When SIGKILL follows.
        kill_at: Moment,
    },
    /// SIGKILL was sent, and something of the run still lives.
    Killing {
        /// When SIGKILL is repeated.
        again_at: Moment,
        /// How often it was repeated so far.
        #[serde(default)]
        times: u32,
    },
}

impl StoppingRun {
    /// Begins the stop of a run, at once or after a drain.
    pub(crate) fn begin(run: Run, since: Moment, transition: &mut Transition<'_>, drain: bool) -> StoppingRun {
        let mut stopping = StoppingRun {
            run,
            since,
            stage: StopStage::Draining { until: transition.now.after(transition.spec.stop.drain_timeout) },
            exit: None,
            unasked: None,
            hung: false,
            rests: false,
        };
        if drain && transition.spec.mode == ExecMode::Cluster {
            transition.effects.push(Effect::Drain { run, grace: transition.spec.stop.drain_timeout });
        } else {
            stopping.terminate(transition);
        }
        stopping
    }

    /// A run that ended by itself; processes that it left behind are terminated.
    pub(crate) fn unasked(run: Run, since: Moment, exit: Exit, transition: &Transition<'_>) -> StoppingRun {
        let stage = StopStage::Terminating { kill_at: transition.now.after(transition.spec.stop.kill_timeout) };
        StoppingRun {
            run,
            since,
            stage,
            exit: Some(exit),
            unasked: Some(transition.now.since(since)),
            hung: false,
            rests: false,
        }
    }

    pub(crate) fn terminate(&mut self, transition: &mut Transition<'_>) {
        self.stage = StopStage::Terminating { kill_at: transition.now.after(transition.spec.stop.kill_timeout) };
        transition.effects.push(Effect::Terminate { run: self.run });
    }

    /// Its stop signal was sent only now.
    pub(crate) fn delayed(&mut self, transition: &Transition<'_>) {
        if let StopStage::Terminating { kill_at } = &mut self.stage {
            *kill_at = transition.now.after(transition.spec.stop.kill_timeout);
        }
    }

    pub(crate) fn end_drain(&mut self, transition: &mut Transition<'_>) {
        if matches!(self.stage, StopStage::Draining { .. }) {
            self.terminate(transition);
        }
    }

    pub(crate) fn tick(&mut self, transition: &mut Transition<'_>) {
        if self.deadline() > transition.now {
            return;
        }
        match self.stage {
            StopStage::Draining { .. } => self.terminate(transition),
            StopStage::Terminating { .. } => self.kill(transition, 0),
            StopStage::Killing { times, .. } => self.kill(transition, times.saturating_add(1)),
        }
    }

    fn kill(&mut self, transition: &mut Transition<'_>, times: u32) {
        self.stage = StopStage::Killing { again_at: transition.now.after(KILL_AGAIN), times };
        transition.effects.push(Effect::Kill { run: self.run });
    }

    /// True if not even SIGKILL ends it.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.stage, StopStage::Killing { times, .. } if times >= KILLS_IN_VAIN)
    }

    pub(crate) fn deadline(&self) -> Moment {
        match self.stage {
            StopStage::Draining { until } => until,
            StopStage::Terminating { kill_at } => kill_at,
            StopStage::Killing { again_at, .. } => again_at,
        }
    }
}
