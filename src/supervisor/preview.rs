//! What a reload would do, without doing it.

use std::collections::BTreeSet;

use super::id::{AppId, ProcessId, Ticket};
use super::process::{Process, State};
use super::requests::Plan;
use super::state::Supervisor;
use crate::protocol::{Changes, Refusal, Rollout, Step, Verdict};
use crate::spec::{AppSpec, Env, ExecMode};

impl Supervisor {
    /// What `reload` of these processes would do. The plan is empty: nothing is done.
    pub(super) fn preview(
        &mut self,
        ticket: Ticket,
        ids: &[ProcessId],
        changes: &Changes,
        rollout: &Rollout,
    ) -> Result<Plan, Refusal> {
        let by_app = self.by_app(ids);
        let specs: Vec<_> = by_app.keys().map(|app| self.changed(*app, changes)).collect::<Result<_, _>>()?;
        self.check_order(&specs.iter().flatten().collect::<Vec<_>>())?;
        let fresh = |(app, spec): (&AppId, &Option<AppSpec>)| {
            spec.clone().unwrap_or_else(|| AppSpec::clone(&self.apps[app].spec))
        };
        let all: Vec<AppSpec> = by_app.keys().zip(&specs).map(fresh).collect();
        self.preview_order(ticket, &all);
        for ((app, members), spec) in by_app.into_iter().zip(specs) {
            let fresh = spec.unwrap_or_else(|| AppSpec::clone(&self.apps[&app].spec));
            self.preview_app(ticket, app, &members, &fresh, rollout);
        }
        Ok(Plan::new())
    }

    /// What `reload` of a config file would do.
    pub(super) fn preview_launch(&mut self, ticket: Ticket, specs: &[AppSpec], rollout: &Rollout) -> Plan {
        self.preview_order(ticket, specs);
        for spec in specs {
            let Some(app) = self.find(spec).map(|app| app.id) else {
                self.would(ticket, format!("`{}` is new: {} would be started", spec.name, processes(spec.instances)));
                continue;
            };
            let members = self.staying(app);
            let (stay, leave) = members.split_at(members.len().min(spec.instances as usize));
            self.preview_app(ticket, app, stay, spec, rollout);
            for id in leave {
                self.note(ticket, *id, "scale", Verdict::Planned { step: Step::Remove });
            }
            let more = spec.instances - u32::try_from(stay.len()).unwrap_or(u32::MAX).min(spec.instances);
            if more > 0 {
                self.would(ticket, format!("`{}`: {} would be added", spec.name, processes(more)));
            }
        }
        Plan::new()
    }

    /// In which order the apps would be reloaded, if any depends on another.
    fn preview_order(&mut self, ticket: Ticket, specs: &[AppSpec]) {
        let all: Vec<&AppSpec> = specs.iter().collect();
        if all.iter().any(|spec| all.iter().any(|other| spec.depends_on.contains_key(&other.name))) {
            let names: Vec<String> = Supervisor::names_in_order(&all).iter().map(|name| format!("`{name}`")).collect();
            self.would(ticket, format!("one after another, as they depend on each other: {}", names.join(", ")));
        }
    }

    fn preview_app(&mut self, ticket: Ticket, app: AppId, members: &[ProcessId], fresh: &AppSpec, rollout: &Rollout) {
        let spec = &self.apps[&app].spec;
        let (changed, same_mode) = (differences(spec, fresh), spec.mode == fresh.mode);
        if !changed.is_empty() {
            self.would(ticket, format!("`{}`: changes {}", fresh.name, changed.join(", ")));
        }
        let canaries = rollout.canary.map_or(0, |canary| canary.share.of(u32::try_from(members.len()).unwrap_or(0)));
        for (id, place) in members.iter().zip(0_u32..) {
            let step = match step(&self.processes[id], fresh.mode == ExecMode::Cluster && same_mode) {
                Step::Replace { .. } if place < canaries => Step::Canary,
                Step::Replace { .. } => Step::Replace { wave: (place - canaries) / rollout.parallel.max(1) + 1 },
                other => other,
            };
            self.note(ticket, *id, "reload", Verdict::Planned { step });
        }
    }

    fn would(&mut self, ticket: Ticket, note: String) {
        self.waits.entry(ticket).or_default().report.notes.push(note);
    }
}

fn processes(count: u32) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

fn step(process: &Process, side_by_side: bool) -> Step {
    match process.state {
        State::Online(_) | State::Canary { .. } if side_by_side => Step::Replace { wave: 1 },
        State::Online(_) | State::Canary { .. } | State::Launching { .. } | State::Stopping(_) => Step::Restart,
        State::Idle => Step::Rest,
        State::Stopped | State::Waiting { .. } | State::Errored => Step::Start,
    }
}

/// The names of the parts of a spec that differ. Values may be secrets and are left out.
fn differences(old: &AppSpec, new: &AppSpec) -> Vec<String> {
    let parts = |spec: &AppSpec| match serde_json::to_value(spec) {
        Ok(serde_json::Value::Object(parts)) => parts,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (before, after) = (parts(old), parts(new));
    let changed = after.iter().filter(|(name, part)| before.get(*name) != Some(*part));
    let words = |name: &String| match name.as_str() {
        "base_env" => format!("the environment of the shell ({})", variables(&old.base_env, &new.base_env)),
        "env" => format!("env ({})", variables(&old.env, &new.env)),
        _ => name.clone(),
    };
    changed.map(|(name, _)| words(name)).collect()
}

/// The names of the variables that differ, or that only one of the two has.
fn variables(old: &Env, new: &Env) -> String {
    const SHOWN: usize = 5;
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed: Vec<&str> =
        names.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(String::as_str).collect();
    match changed.len().saturating_sub(SHOWN) {
        0 => changed.join(", "),
        more => format!("{} and {more} more", changed[..SHOWN].join(", ")),
    }
}
