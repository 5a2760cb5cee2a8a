//! What a request comes to: what has to be started besides, and in which order all of it is done.

use std::collections::{BTreeMap, HashMap};

use super::{DependencyState, needs};
use crate::spec::AppSpec;
use crate::spec::dependency::Condition;
use crate::supervisor::app::App;
use crate::supervisor::id::{ProcessId, Ticket};
use crate::supervisor::operation::{Kind, Operation};
use crate::supervisor::process::{Goal, Process, State};
use crate::supervisor::requests::Plan;
use crate::supervisor::state::Supervisor;

impl Supervisor {
    /// The plan with what it needs besides, in the order in which it is to be carried out.
    pub(crate) fn in_order(&mut self, ticket: Ticket, mut plan: Plan) -> Plan {
        let takes_down = plan.first().is_some_and(|(_, operation)| operation.kind.overtakes());
        if takes_down {
            self.note_dependents(ticket, &plan);
        } else {
            self.add_what_is_down(ticket, &mut plan);
        }
        let specs = plan.iter().map(|(app, operation)| operation.spec.as_ref().unwrap_or(&self.apps[app].spec));
        let order = sorted(&specs.map(|spec| &**spec).collect::<Vec<_>>(), takes_down);
        let mut place = self.operations().filter_map(|operation| operation.place).max().unwrap_or_default();
        let request = Some(place + 1);
        let mut plan: Vec<_> = plan.into_iter().map(Some).collect();
        let mut next = |at: usize| {
            let (app, operation) = plan[at].take().expect("each is there once");
            place += 1;
            (app, Operation { place: Some(place), request, ..operation })
        };
        order.into_iter().map(&mut next).collect()
    }

    /// The names of these apps, in the order in which they are brought up.
    pub(crate) fn names_in_order(specs: &[&AppSpec]) -> Vec<String> {
        sorted(specs, false).into_iter().map(|at| specs[at].name.clone()).collect()
    }

    fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.apps.values().flat_map(|app| &app.operations)
    }

    /// Dependencies that are down, and theirs, are started as well.
    fn add_what_is_down(&mut self, ticket: Ticket, plan: &mut Plan) {
        let mut at = 0;
        while let Some((app, operation)) = plan.get(at) {
            at += 1;
            if !self.brings_up(*app, operation.kind) {
                continue;
            }
            let spec = std::sync::Arc::clone(operation.spec.as_ref().unwrap_or(&self.apps[app].spec));
            let without = operation.without.clone();
            for (name, condition) in spec.depends_on.iter().filter(|(name, _)| !without.contains(*name)) {
                let Some(other) = self.named(&spec.namespace, name) else { continue };
                let id = other.id;
                let planned = plan.iter_mut().find(|(planned, _)| *planned == id).map(|(_, operation)| operation);
                let mut down = self.down(other, *condition, planned.is_some());
                down.retain(|id| planned.as_ref().is_none_or(|planned| !planned.concerns(*id)));
                match planned {
                    _ if down.is_empty() => continue,
                    Some(planned) => planned.pending.extend(down),
                    None => plan.push((id, Operation::new(Some(ticket), Kind::Start, down, usize::MAX))),
                }
                self.remark(Some(ticket), format!("`{name}` was started as well: `{}` depends on it", spec.name));
            }
        }
    }

    /// The processes of a dependency that have to be started for it to come to what is wanted of it. None if it is so,
    /// or on its way, or can never be. `planned` if some of it are going to be started anyway.
    fn down(&self, app: &App, condition: Condition, planned: bool) -> Vec<ProcessId> {
        let standing = self.dependency_state(Some(app), &app.spec.name, condition, u64::MAX, false);
        if !matches!(standing, DependencyState::Failed(_)) || app.spec.never(condition).is_some() {
            return Vec::new();
        }
        let members = || self.members(app.id).filter(|process| process.goal != Goal::Gone);
        let some_run = planned || members().any(|process| self.stays_up(process));
        let is_down = |process: &&Process| match condition {
            _ if process.state == State::Errored => true,
            Condition::Completed => !process.is_completed() && !self.stays_up(process),
            // The others are meant to be down.
            Condition::Started | Condition::Ready | Condition::Healthy => !some_run,
        };
        members().filter(is_down).map(|process| process.id).collect()
    }

    /// Adds a note for each app that runs on without an app that it depends on.
    fn note_dependents(&mut self, ticket: Ticket, plan: &Plan) {
        if self.closing {
            return;
        }
        let mut notes = Vec::new();
        for (app, operation) in plan {
            let spec = &self.apps[app].spec;
            let whole = self.staying(*app).iter().all(|id| operation.concerns(*id));
            let others = self.apps.values().filter(|other| {
                whole && needs(&other.spec, spec) && plan.iter().all(|(planned, _)| *planned != other.id)
            });
            for other in others {
                let runs = self.members(other.id).any(|process| self.stays_up(process) && process.is_active());
                let (name, needed) = (&other.spec.name, &spec.name);
                notes.extend(match (operation.kind, runs) {
                    (Kind::Delete, _) => {
                        Some(format!("`{name}` depends on `{needed}` and cannot be started without it"))
                    }
                    (_, true) => Some(format!("`{name}` depends on `{needed}` and runs on")),
                    (_, false) => None,
                });
            }
        }
        notes.into_iter().for_each(|note| self.remark(Some(ticket), note));
    }
}

/// Their numbers so that each comes after those it depends on, or before them; else as they stand.
fn sorted(specs: &[&AppSpec], reversed: bool) -> Vec<usize> {
    let numbers: HashMap<(&str, &str), usize> =
        specs.iter().enumerate().map(|(at, spec)| ((&*spec.namespace, &*spec.name), at)).collect();
    let mut first: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, spec) in specs.iter().enumerate() {
        for other in spec.depends_on.keys().filter_map(|name| numbers.get(&(&*spec.namespace, name.as_str()))) {
            let (one, other) = if reversed { (*other, at) } else { (at, *other) };
            first.entry(one).or_default().push(other);
        }
    }
    let (mut order, mut seen) = (Vec::with_capacity(specs.len()), vec![false; specs.len()]);
    for at in 0..specs.len() {
        visit(at, &first, &mut seen, &mut order);
    }
    order
}

fn visit(at: usize, first: &BTreeMap<usize, Vec<usize>>, seen: &mut [bool], order: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[at], true) {
        return;
    }
    for other in first.get(&at).into_iter().flatten() {
        visit(*other, first, seen, order);
    }
    order.push(at);
}
