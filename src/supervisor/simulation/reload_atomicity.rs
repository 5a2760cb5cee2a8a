//! What a reload promises: all of an app on the new release, or, if one failed, all back on the one they had.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history::History;
use crate::protocol::{Action, Launch, Report, Verdict};
use crate::spec::{Env, OnReloadFailure};
use crate::supervisor::{App, AppId, Effect, Process, ProcessId, Request, State, Ticket};

/// How things stood when a reload was asked for, with nothing else going on.
pub struct ReloadCheck {
    ticket: Ticket,
    /// The releases that served.
    before: BTreeMap<ProcessId, Arc<Env>>,
    /// Apps whose reload rolls back if it fails, and the release that is theirs. Single processes may have an older
    /// one.
    bound: Vec<(AppId, Arc<Env>)>,
    /// It goes on whatever fails.
    forced: bool,
}

impl ReloadCheck {
    pub fn new(history: &History, ask: &Request) -> ReloadCheck {
        let (forced, dry) = match ask {
            Request::Act { action: Action::Reload { rollout, .. }, .. }
            | Request::Launch { how: Launch::OrReload(rollout), .. } => (rollout.force, rollout.dry_run),
            Request::Act { .. } | Request::Launch { .. } | Request::Restore(_) | Request::ShutDown => {
                panic!("not a reload: {ask:?}")
            }
        };
        let rolls_back = |spec: &crate::spec::AppSpec| spec.on_reload_failure == OnReloadFailure::Rollback;
        let apps = history.supervisor.apps.values().filter(|app| match ask {
            Request::Launch { apps, .. } => apps.iter().any(|spec| spec.name == app.spec.name && rolls_back(spec)),
            Request::Act { .. } | Request::Restore(_) | Request::ShutDown => rolls_back(&app.spec),
        });
        let bound = apps.filter(|_| !forced && !dry).map(|app| (app.id, Arc::clone(&app.spec.base_env))).collect();
        let before =
            history.supervisor.processes().filter_map(|process| Some((process.id, release(history, process)?)));
        ReloadCheck { ticket: Ticket(history.next_ticket + 1), before: before.collect(), bound, forced }
    }
}

/// The release of the run that serves.
fn release(history: &History, process: &Process) -> Option<Arc<Env>> {
    let run = match process.state {
        State::Online(serving) | State::Launching { old: Some(serving), .. } => serving.run,
        State::Canary { new, .. } => new.run,
        State::Stopped
        | State::Launching { old: None, .. }
        | State::Stopping(_)
        | State::Waiting { .. }
        | State::Idle
        | State::Errored => return None,
    };
    Some(Arc::clone(&history.os.bodies.get(&run)?.release))
}

impl History {
    /// Looks whether the reload kept its promise, once it is answered.
    pub fn check_reload(&mut self, effects: &[Effect]) {
        let Some(reload_check) = &self.reload_check else { return };
        let settled = effects.iter().find_map(|effect| {
            let Effect::Settle { ticket, answer } = effect else { return None };
            (*ticket == reload_check.ticket).then_some(answer)
        });
        let Some(answer) = settled else { return };
        if let Ok(report) = answer {
            reload_check.bound.iter().for_each(|(app, was)| self.check_release(reload_check, *app, was, report));
            let spared = if reload_check.forced { 0 } else { self.spared(report) };
            self.coverage.spared(spared);
        }
        self.reload_check = None;
    }

    /// How many apps were not reloaded since the reload of one failed that they depend on. None of those was.
    fn spared(&self, report: &Report) -> usize {
        let reloaded = |name: &str, is_so: fn(&Verdict) -> bool| {
            report.lines.iter().any(|line| line.name == name && line.verb == "reload" && is_so(&line.verdict))
        };
        let failed = |verdict: &Verdict| {
            matches!(verdict, Verdict::Failed { .. } | Verdict::NotBegun { .. } | Verdict::RolledBack)
        };
        let lacks = |app: &&App| app.spec.depends_on.keys().any(|name| reloaded(name, failed));
        let apps: Vec<&App> = self.supervisor.apps().filter(lacks).collect();
        let done = apps.iter().find(|app| reloaded(&app.spec.name, |verdict| *verdict == Verdict::Done));
        assert!(done.is_none(), "{done:?} was reloaded without what it depends on: {report:?}");
        apps.iter().filter(|app| reloaded(&app.spec.name, failed)).count()
    }

    fn check_release(&self, reload_check: &ReloadCheck, app: AppId, was: &Arc<Env>, report: &Report) {
        let members: Vec<&Process> = self.supervisor.members(app).collect();
        let lines = || report.lines.iter().filter(|line| members.iter().any(|process| process.id.0 == line.id));
        let failed = lines().any(|line| line.verdict != Verdict::Done);
        for process in &members {
            let now = release(self, process);
            let verdicts: Vec<&Verdict> =
                lines().filter(|line| line.id == process.id.0).map(|line| &line.verdict).collect();
            let lost =
                |verdict: &&&Verdict| matches!(verdict, Verdict::Failed { reason, .. } if reason.contains("not back"));
            if failed && verdicts.iter().find(lost).is_none() {
                let before = reload_check.before.get(&process.id);
                assert!(now.as_ref() == before || now.as_ref() == Some(was), "{now:?}: {process:?} {report:?}");
                assert_eq!(self.supervisor.apps[&app].spec.base_env, *was, "the spec was not rolled back");
            } else if !failed && !verdicts.is_empty() {
                let wanted = &self.supervisor.apps[&app].spec.base_env;
                assert_eq!(now.as_ref(), Some(wanted), "not on the new release: {process:?} {report:?}");
            }
        }
    }
}
