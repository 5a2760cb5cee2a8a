//! An observer that knows only the requests: what became of each process must agree with the last word about it.

use std::collections::{BTreeMap, BTreeSet};

use super::coverage::column;
use super::history::History;
use super::sequence;
use crate::protocol::{Action, Launch, Scale};
use crate::spec::AppSpec;
use crate::supervisor::{AppId, Effect, Goal, Input, ProcessId, Request, Ticket};

/// What the observer expects.
#[derive(Clone, Default)]
pub struct Expectations {
    /// What the last word about a process was: shall it run? Not known after a reload.
    pub expected_up: BTreeMap<ProcessId, bool>,
    /// Apps told to be down as a whole.
    pub quiet: BTreeSet<AppId>,
    /// How many processes the last word about an app wanted.
    counts: BTreeMap<AppId, u32>,
}

impl History {
    pub fn ask(&mut self, ask: &Request) {
        let named = self.named(ask);
        for id in &named {
            self.coverage.note(&self.supervisor.processes[id], column(ask));
        }
        let (before, closing) = (self.expectations.clone(), self.supervisor.is_closing());
        self.expect(ask, &named);
        self.expectations_before = Some(before);
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.open.insert(ticket);
        let known: BTreeSet<AppId> = self.supervisor.apps.keys().copied().collect();
        let effects = self.handle(&Input::Request { ticket, ask: ask.clone() });
        let before = self.expectations_before.take();
        let forgotten = before.is_none();
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Settle { answer: Err(_), .. }));
        assert!(refused || !closing || matches!(ask, Request::ShutDown), "a closing daemon takes orders");
        if refused {
            assert_eq!(effects.len(), 1, "a refusal changes nothing");
            self.expectations = before.unwrap_or_else(|| self.expectations.clone());
            self.forget_removed();
        } else if let (Request::Launch { apps, how }, false) = (ask, forgotten) {
            self.expect_new(apps, *how, &known);
        }
    }

    /// Numbers are given again when no process has them.
    pub fn forget_removed(&mut self) {
        let processes = &self.supervisor.processes;
        self.expectations.expected_up.retain(|id, _| processes.contains_key(id));
    }

    /// The processes a request is about.
    fn named(&self, ask: &Request) -> Vec<ProcessId> {
        match ask {
            Request::Act { target, .. } => self.supervisor.select(target).unwrap_or_default(),
            Request::Launch { apps, .. } => {
                let known = apps.iter().filter_map(|spec| self.supervisor.find(spec));
                known.flat_map(|app| self.supervisor.staying(app.id)).collect()
            }
            Request::Restore(_) | Request::ShutDown => self.supervisor.processes.keys().copied().collect(),
        }
    }

    /// Writes down what the request wants.
    fn expect(&mut self, ask: &Request, named: &[ProcessId]) {
        for app in sequence::dependencies(&self.supervisor, ask, named) {
            // It may be started as well.
            self.expectations.quiet.remove(&app);
            let members: Vec<ProcessId> = self.supervisor.staying(app);
            self.expectations.expected_up.retain(|id, _| !members.contains(id));
        }
        let apps: BTreeSet<AppId> = named.iter().map(|id| self.supervisor.processes[id].app).collect();
        if let Request::Launch { apps, .. } = ask {
            for known in apps.iter().filter_map(|spec| self.supervisor.find(spec)) {
                self.expectations.quiet.remove(&known.id);
            }
        }
        let wish = match ask {
            Request::Act { action: Action::Start(_) | Action::Restart(_), .. } => Some(true),
            Request::Launch { how: Launch::New | Launch::OrRestart, .. } => Some(true),
            Request::Act { action: Action::Stop | Action::Delete, .. } | Request::ShutDown => Some(false),
            Request::Act { action: Action::Reload { .. }, .. } | Request::Launch { .. } => None,
            Request::Act { action: Action::Scale(scale), .. } => {
                for app in apps {
                    self.expectations.quiet.remove(&app);
                    match scale {
                        _ if sequence::may_wait(&self.supervisor, app) => drop(self.expectations.counts.remove(&app)),
                        Scale::To(count) => drop(self.expectations.counts.insert(app, *count)),
                        Scale::Up(_) | Scale::Down(_) => drop(self.expectations.counts.remove(&app)),
                    }
                }
                return;
            }
            Request::Act { .. } | Request::Restore(_) => return,
        };
        for id in named {
            match wish {
                Some(wish) => self.expectations.expected_up.insert(*id, wish),
                None => self.expectations.expected_up.remove(id),
            };
        }
        for app in apps {
            let whole = self.supervisor.staying(app).iter().all(|id| named.contains(id));
            if wish == Some(false) {
                self.expectations.counts.remove(&app);
                if whole {
                    self.expectations.quiet.insert(app);
                }
            } else {
                self.expectations.quiet.remove(&app);
            }
        }
    }

    /// What a launch wants of apps that were not there, and how many it wants of each.
    fn expect_new(&mut self, specs: &[AppSpec], how: Launch, known: &BTreeSet<AppId>) {
        for spec in specs {
            let Some(app) = self.supervisor.find(spec).map(|app| app.id) else { continue };
            self.expectations.quiet.remove(&app);
            // A reload may be rolled back.
            let binding = !matches!(how, Launch::OrReload(_)) || !known.contains(&app);
            // What waits for another app in vain is dropped.
            let binding = binding && !sequence::may_wait(&self.supervisor, app);
            match binding {
                true => self.expectations.counts.insert(app, spec.instances),
                false => self.expectations.counts.remove(&app),
            };
            if !known.contains(&app) {
                let needed = specs.iter().any(|other| other.depends_on.contains_key(&spec.name));
                for id in self.supervisor.staying(app).into_iter().filter(|_| spec.autostart || !needed) {
                    self.expectations.expected_up.insert(id, spec.autostart);
                }
            }
        }
    }

    /// The last word of the operator holds, but for what ended by itself and is not to come back.
    pub fn check_expected(&self) {
        for process in self.supervisor.processes() {
            let rule = &self.supervisor.apps[&process.app].spec.restart;
            let may_end = !rule.autorestart || !rule.stop_exit_codes.is_empty() || process.last_exit.is_some();
            let up = self.expectations.expected_up.get(&process.id) == Some(&true);
            assert!(!up || process.goal == Goal::Up || may_end, "it was to be up: {process:?}");
        }
        for (app, count) in &self.expectations.counts {
            let staying = u32::try_from(self.supervisor.staying(*app).len()).expect("few");
            assert!(self.supervisor.app(*app).is_none() || staying == *count, "{app:?} has {staying}, not {count}");
        }
    }
}
