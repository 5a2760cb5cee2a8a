//! The operating system and the shell, simulated: which runs live, what they are like, and what is still to be reported
//! of them. It also judges each effect: whether a careful shell could carry it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::rng::Rng;
use crate::protocol::{Exit, Run};
use crate::spec::{AppSpec, Env, ExecMode};
use crate::supervisor::{AppId, Effect, Input, Moment, Proof};

/// One process tree that lives, as far as the supervisor has been told.
#[derive(Debug)]
pub struct SimulatedRun {
    /// When its `Spawned` or `SpawnFailed` is due; nothing about it comes earlier.
    told_at: Moment,
    /// It never came to be; its `SpawnFailed` is on the way.
    fails_to_spawn: bool,
    /// The main process lives.
    pub main: bool,
    /// When the main process ends, others of its tree live on.
    leaves: bool,
    /// What it leaves goes by SIGKILL only.
    ignores_stop: bool,
    /// The main process does not act on the stop signal.
    ignores_signal: bool,
    /// How long it may take from the stop signal to SIGKILL, and when that signal came.
    kill_timeout: Duration,
    terminated: Option<Moment>,
    /// Its stop signal came from a daemon that died; the next one, told to send it, will know.
    signalled_before_crash: bool,
    drained: bool,
    killed: bool,
    /// It was told to serve the sockets it was given.
    pub serves: bool,
    /// It was let into the rotation, and is not passed over.
    pub rotates: bool,
    /// The environment it was started with, which tells its release.
    pub release: Arc<Env>,
}

/// What is going to be reported of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OsEvent {
    Spawned,
    SpawnFailed {
        permanent: bool,
    },
    Ready(Proof),
    /// It passes its health check for the first time.
    Passes,
    Drained,
    /// It ends because it was told to.
    Exit(Exit),
    /// It ends by itself.
    Crash(Exit),
    TreeExited,
}

/// All that lives, and what will be heard of it.
#[derive(Debug, Default)]
pub struct Os {
    pub bodies: BTreeMap<Run, SimulatedRun>,
    agenda: BTreeMap<(Moment, u64), (Run, OsEvent)>,
    scheduled: u64,
    /// Runs that were started.
    started: BTreeSet<Run>,
    /// Apps whose listeners may be open: a run was started, or their addresses are kept open for an idle process.
    pub listening: BTreeSet<AppId>,
    /// A new daemon is not done yet: what it does may be about runs that are not there.
    pub recovering: bool,
    /// From now on everything starts, becomes ready, does not crash, and goes at the latest by SIGKILL.
    pub behaves: bool,
}

impl Os {
    /// When there is news.
    pub fn next(&self) -> Option<Moment> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// The next news, if it has not become void.
    pub fn take(&mut self) -> Option<(Moment, Run, OsEvent)> {
        let ((at, _), (run, news)) = self.agenda.pop_first()?;
        let body = self.bodies.get(&run)?;
        let void = match news {
            OsEvent::Exit(_) | OsEvent::Ready(_) | OsEvent::Passes => !body.main,
            OsEvent::Crash(_) => !body.main || self.behaves,
            OsEvent::TreeExited => body.main,
            OsEvent::SpawnFailed { .. } => !body.fails_to_spawn,
            OsEvent::Spawned | OsEvent::Drained => false,
        };
        (!void).then_some((at, run, news))
    }

    /// Makes the news true and says it in the supervisor's words.
    pub fn happen(&mut self, rng: &mut Rng, now: Moment, run: Run, news: OsEvent) -> Input {
        match news {
            OsEvent::Spawned => Input::Spawned { run },
            OsEvent::Ready(proof) => Input::Ready { run, proof },
            OsEvent::Passes => Input::Checked { run, fault: None },
            OsEvent::Drained => Input::Drained { run },
            OsEvent::SpawnFailed { permanent } => {
                self.bodies.remove(&run);
                Input::SpawnFailed { run, error: "no such file".into(), permanent }
            }
            OsEvent::TreeExited => {
                self.bodies.remove(&run);
                Input::TreeExited { run }
            }
            OsEvent::Exit(exit) | OsEvent::Crash(exit) => {
                let body = self.bodies.get_mut(&run).expect("void news are not delivered");
                body.main = false;
                let survivors = body.leaves;
                let goes = body.killed || (body.terminated.is_some() && !body.ignores_stop);
                if !survivors {
                    self.bodies.remove(&run);
                } else if goes {
                    self.plan(now.after(rng.millis(300)), run, OsEvent::TreeExited);
                }
                Input::Exited { run, exit, survivors }
            }
        }
    }

    /// Carries out what concerns runs.
    pub fn carry_out(&mut self, rng: &mut Rng, now: Moment, spec: Option<&AppSpec>, effect: &Effect) {
        if let Effect::Drain { run, .. } | Effect::Terminate { run } | Effect::Kill { run } = effect
            && self.recovering
            && !self.bodies.contains_key(run)
        {
            return;
        }
        match effect {
            Effect::Spawn { run, .. } => self.spawn(rng, now, *run, spec.expect("a process that starts has an app")),
            Effect::Drain { run, grace } => {
                let cluster = spec.is_none_or(|spec| spec.mode == ExecMode::Cluster);
                // A drain goes on when a restart makes the app no cluster.
                assert!(cluster || self.recovering, "{run:?} has nothing to be drained of");
                self.drain(rng, now, *run, *grace);
            }
            Effect::Terminate { run } => self.terminate(rng, now, *run),
            Effect::Kill { run } => self.kill(rng, now, *run),
            Effect::Signal { run, .. } => {
                assert!(self.bodies[run].main, "a signal for {run:?}, whose main process ended");
            }
            Effect::Admit { run } => self.rotate(*run, true),
            Effect::Eject { run } => self.rotate(*run, false),
            Effect::Serve { run } => match self.bodies.get_mut(run) {
                Some(body) => assert!(!std::mem::replace(&mut body.serves, true), "{run:?} became ready twice"),
                // Its end is among the news that wait.
                None => assert!(self.recovering, "{run:?} became ready and does not live"),
            },
            Effect::WatchForDemand { app } => drop(self.listening.insert(*app)),
            Effect::CloseListeners { app } | Effect::AppRemoved { app } => drop(self.listening.remove(app)),
            Effect::UpdatePidFile { .. }
            | Effect::ProcessRemoved { .. }
            | Effect::Publish { .. }
            | Effect::Settle { .. } => {}
        }
    }

    /// Lets a worker into the rotation, or takes it out.
    pub fn rotate(&mut self, run: Run, rotates: bool) {
        if let Some(body) = self.bodies.get_mut(&run) {
            body.rotates = rotates;
        }
    }

    /// Lets every run behave well from now on; one that ignores its stop signal still does.
    pub fn make_well_behaved(&mut self, now: Moment) {
        self.behaves = true;
        let mains: Vec<Run> = self.bodies.iter().filter(|(_, body)| body.main).map(|(run, _)| *run).collect();
        for run in mains {
            let at = self.bodies[&run].told_at.max(now);
            self.plan(at.after(Duration::from_millis(50)), run, OsEvent::Ready(Proof::Message));
            self.plan(at.after(Duration::from_millis(50)), run, OsEvent::Passes);
        }
    }

    /// A job comes to its end, all being done, unless it is ending already.
    pub fn finish(&mut self, now: Moment, run: Run) {
        let ends = |(other, news): &(Run, OsEvent)| *other == run && matches!(news, OsEvent::Exit(_));
        if !self.agenda.values().any(ends) {
            self.plan(now.after(Duration::from_millis(50)), run, OsEvent::Exit(Exit::Code(0)));
        }
    }

    // The daemon dies.

    /// Nobody is there to report what was not started, or to see to drains.
    pub fn orphan(&mut self) {
        let fails_to_spawn: Vec<Run> =
            self.bodies.iter().filter(|(_, body)| body.fails_to_spawn).map(|(run, _)| *run).collect();
        for run in fails_to_spawn {
            self.bodies.remove(&run);
            self.forget_spawn(run);
        }
        for body in self.bodies.values_mut() {
            (body.drained, body.serves) = (false, false);
            body.signalled_before_crash = body.terminated.is_some();
        }
        self.agenda.retain(|_, (_, news)| *news != OsEvent::Drained);
    }

    /// The run came to be after all.
    pub fn confirm_spawn(&mut self, run: Run) {
        let Some(body) = self.bodies.get_mut(&run).filter(|body| body.fails_to_spawn) else { return };
        body.fails_to_spawn = false;
        let told_at = body.told_at;
        self.plan(told_at, run, OsEvent::Spawned);
    }

    /// The run was not started, and no daemon was told so.
    pub fn forget_spawn(&mut self, run: Run) {
        self.started.remove(&run);
        self.agenda.retain(|_, (other, _)| *other != run);
    }

    /// Ends at once every run that no process of the list has.
    pub fn kill_strays(&mut self, is_known: impl Fn(Run) -> bool) {
        self.bodies.retain(|run, _| is_known(*run));
    }

    /// The last run anybody heard of.
    pub fn last_run(&self) -> Run {
        self.started.last().copied().unwrap_or(Run(0))
    }

    pub fn was_started(&self, run: Run) -> bool {
        self.started.contains(&run)
    }

    /// True if a stop signal for the run would be the second one, or would go to no process.
    pub fn was_told_to_stop(&self, run: Run) -> bool {
        self.bodies.get(&run).is_none_or(|body| body.terminated.is_some())
    }

    pub fn can_drain(&self, run: Run) -> bool {
        self.bodies.get(&run).is_some_and(|body| body.main && body.terminated.is_none())
    }

    fn plan(&mut self, at: Moment, run: Run, news: OsEvent) {
        self.scheduled += 1;
        self.agenda.insert((at, self.scheduled), (run, news));
    }

    fn spawn(&mut self, rng: &mut Rng, now: Moment, run: Run, spec: &AppSpec) {
        assert!(self.started.insert(run), "{run:?} was used before");
        let wild = !self.behaves;
        let slow = wild && rng.percent(15);
        let told_at = now.after(rng.millis(if slow { 8_000 } else { 4 }));
        let body = SimulatedRun {
            told_at,
            fails_to_spawn: wild && rng.percent(if slow { 40 } else { 7 }),
            main: true,
            leaves: wild && rng.percent(20),
            ignores_stop: rng.percent(50),
            ignores_signal: wild && rng.percent(15),
            kill_timeout: spec.stop.kill_timeout,
            terminated: None,
            signalled_before_crash: false,
            drained: false,
            killed: false,
            serves: false,
            // Others may serve.
            rotates: !spec.may_be_held_back(),
            release: Arc::clone(&spec.base_env),
        };
        if body.fails_to_spawn {
            self.plan(told_at, run, OsEvent::SpawnFailed { permanent: rng.percent(35) });
        } else {
            self.plan(told_at, run, OsEvent::Spawned);
            self.plan_life(rng, told_at, run);
        }
        self.bodies.insert(run, body);
    }

    fn plan_life(&mut self, rng: &mut Rng, born: Moment, run: Run) {
        if self.behaves {
            self.plan(born.after(Duration::from_millis(50)), run, OsEvent::Passes);
            return self.plan(born.after(Duration::from_millis(50)), run, OsEvent::Ready(Proof::Message));
        }
        if rng.percent(60) {
            self.plan(born.after(rng.millis(1500)), run, OsEvent::Ready(Proof::Listening));
        }
        if rng.percent(60) {
            self.plan(born.after(rng.millis(4000)), run, OsEvent::Ready(Proof::Message));
        }
        if rng.percent(60) {
            self.plan(born.after(rng.millis(2500)), run, OsEvent::Passes);
        }
        let lives = match rng.below(10) {
            0..3 => rng.millis(40),
            3..5 => rng.millis(8_000),
            5..7 => rng.millis(60_000),
            _ => return,
        };
        let exit = rng.pick(&[Exit::Code(0), Exit::Code(1), Exit::Signal(9), Exit::Signal(11)]);
        self.plan(born.after(lives), run, OsEvent::Crash(exit));
    }

    fn drain(&mut self, rng: &mut Rng, now: Moment, run: Run, grace: Duration) {
        let body = self.bodies.get_mut(&run).expect("only what lives is drained");
        if self.recovering && !body.main {
            return;
        }
        let stays = body.terminated.is_none() || body.signalled_before_crash;
        assert!(body.main && !body.drained && stays, "{run:?} is drained out of turn: {body:?}");
        body.drained = true;
        if rng.percent(60) {
            let within = u64::try_from(grace.as_millis()).expect("short") + 1;
            self.plan(now.after(rng.millis(within)), run, OsEvent::Drained);
        }
    }

    fn terminate(&mut self, rng: &mut Rng, now: Moment, run: Run) {
        let body = self.bodies.get_mut(&run).unwrap_or_else(|| panic!("{run:?} is told to stop and does not live"));
        if std::mem::take(&mut body.signalled_before_crash) {
            return;
        }
        assert!(body.terminated.is_none(), "{run:?} gets its stop signal twice: programs take that for `at once`");
        body.terminated = Some(now);
        if body.fails_to_spawn {
            return;
        }
        let at = body.told_at.max(now).after(rng.millis(200));
        if body.main && !body.ignores_signal {
            self.plan(at, run, OsEvent::Exit(rng.pick(&[Exit::Code(0), Exit::Code(1), Exit::Signal(2)])));
        } else if !body.main && !body.ignores_stop {
            self.plan(at, run, OsEvent::TreeExited);
        }
    }

    fn kill(&mut self, rng: &mut Rng, now: Moment, run: Run) {
        let body = self.bodies.get_mut(&run).unwrap_or_else(|| panic!("{run:?} is killed and does not live"));
        // Only the new daemon may kill what was not asked to stop: the signal may have been due together with this.
        if self.recovering {
            body.terminated.get_or_insert(now);
        }
        let asked = body.terminated.expect("nothing is killed that was not asked to stop");
        assert!(now >= asked.after(body.kill_timeout), "{run:?} is killed before its time");
        let escapes = !self.behaves && rng.percent(10);
        if body.fails_to_spawn || escapes {
            return;
        }
        body.killed = true;
        let at = body.told_at.max(now).after(rng.millis(20));
        let news = if body.main { OsEvent::Exit(Exit::Signal(9)) } else { OsEvent::TreeExited };
        self.plan(at, run, news);
    }
}
