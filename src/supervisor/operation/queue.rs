//! One queue of operations for each app: what waits for what, what overtakes, and when a ticket is settled.

use std::collections::VecDeque;
use std::sync::Arc;

use super::kind::Kind;
use super::state::Operation;
use crate::protocol::{EventKind, ReportLine, Stage, UnderWay, Verdict};
use crate::supervisor::id::{AppId, ProcessId, Ticket};
use crate::supervisor::input::Effect;
use crate::supervisor::moment::Moment;
use crate::supervisor::persist::RecordKey;
use crate::supervisor::process::Process;
use crate::supervisor::state::Supervisor;

impl Supervisor {
    /// Puts an operation into its app's queue and lets it begin if it may.
    pub(crate) fn enqueue(&mut self, now: Moment, app: AppId, mut operation: Operation, effects: &mut Vec<Effect>) {
        if operation.kind == Kind::Reload {
            self.queue_reload(app, &mut operation, effects);
        }
        if operation.has_specs() {
            self.touch(RecordKey::Spec(app));
        }
        let queue = &mut self.apps.get_mut(&app).expect("operations are made for apps that exist").operations;
        queue.push_back(operation);
        self.advance(now, app, effects);
    }

    /// A reload takes the place of the last one in the queue if that has not begun and is about nothing else; else it
    /// waits for what is there. Its answer says which.
    fn queue_reload(&mut self, app: AppId, newer: &mut Operation, effects: &mut Vec<Effect>) {
        let Some(entry) = self.apps.get_mut(&app) else { return };
        let covered = |last: &mut Operation| {
            let all = last.pending.iter().all(|id| newer.pending.contains(id));
            last.kind == Kind::Reload && !last.begun && all && newer.ticket.is_some()
        };
        let name = entry.spec.name.clone();
        // An event reports at once why nothing happens; it names the first process for all.
        let first = newer.pending.front().copied().filter(|_| newer.ticket.is_some());
        let tell = |effects: &mut Vec<Effect>, why| {
            effects.extend(first.map(|process| Effect::Publish { process, kind: EventKind::Held { why } }));
        };
        let Some(older) = entry.operations.pop_back_if(covered) else {
            if let Some(last) = entry.operations.back() {
                let verb = last.kind.verb();
                tell(effects, format!("its reload waits for the {verb} before it"));
                self.remark(newer.ticket, format!("`{name}`: the reload waited for the {verb} before it"));
            }
            return;
        };
        newer.spec = newer.spec.take().or(older.spec);
        newer.count = newer.count.or(older.count);
        self.touch(RecordKey::Spec(app));
        for id in older.pending {
            let verdict = Verdict::Superseded { by: Kind::Reload.verb().to_owned() };
            self.report(older.ticket, app, id, Kind::Reload, verdict);
        }
        self.close(older.ticket, effects);
        tell(effects, "its reload takes the place of one that waited".to_owned());
        self.remark(newer.ticket, format!("`{name}`: the reload took the place of one that waited"));
    }

    pub(crate) fn remark(&mut self, ticket: Option<Ticket>, note: String) {
        if let Some(wait) = ticket.and_then(|ticket| self.waits.get_mut(&ticket)) {
            wait.report.notes.push(note);
        }
    }

    /// Takes the processes of a `newer` stop or delete out of every operation of the app, before it is enqueued. What
    /// has not begun and has nothing left to do never begins, and neither does a scale that waits while the whole app
    /// is taken down.
    pub(crate) fn supersede(&mut self, app: AppId, newer: &Operation) {
        let whole = self.staying(app).iter().all(|id| newer.concerns(*id));
        let Some(entry) = self.apps.get_mut(&app) else { return };
        let mut lines = Vec::new();
        for operation in &mut entry.operations {
            let (kind, ticket) = (operation.kind, operation.ticket);
            let mut taken = |id: &ProcessId| {
                let stays = !newer.pending.contains(id) || (kind == Kind::Delete && newer.kind == Kind::Stop);
                if !stays {
                    let by = newer.kind.verb().to_owned();
                    let verdict = if kind == newer.kind { None } else { Some(Verdict::Superseded { by }) };
                    lines.extend(verdict.map(|verdict| (ticket, *id, kind, verdict)));
                }
                stays || kind == newer.kind
            };
            operation.pending.retain(&mut taken);
            operation.active.retain(&mut taken);
            operation.transaction.retain(&mut taken);
            operation.count = operation.count.filter(|_| !whole);
            let waits = matches!(kind, Kind::Scale(_)) && !operation.begun;
            if waits && whole {
                let by = newer.kind.verb();
                let never = |id: &ProcessId| (ticket, *id, kind, Verdict::Superseded { by: by.to_owned() });
                lines.extend(newer.pending.iter().map(never));
            }
            let counts = waits || operation.count.is_some();
            operation.begun |= operation.pending.is_empty() && (whole || !counts);
        }
        for (ticket, id, kind, verdict) in lines {
            self.report(ticket, app, id, kind, verdict);
        }
    }

    /// Carries the app's operations as far as they go, and then those that waited for it.
    pub(crate) fn advance(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        let mut next = VecDeque::from([app]);
        while let Some(id) = next.pop_front() {
            let Some(entry) = self.apps.get(&id) else { continue };
            let (spec, before) = (Arc::clone(&entry.spec), progress(&entry.operations));
            self.advance_alone(now, id, effects);
            let moved = self.apps.get(&id).is_none_or(|entry| progress(&entry.operations) != before);
            if moved || id == app {
                next.extend(self.waiting_near(id, &spec));
            }
        }
    }

    /// Carries the app's operations as far as they go, and removes the app when its last process is gone.
    fn advance_alone(&mut self, now: Moment, app: AppId, effects: &mut Vec<Effect>) {
        let mut queue = match self.apps.get_mut(&app) {
            Some(entry) => std::mem::take(&mut entry.operations),
            None => return,
        };
        if !queue.is_empty() {
            self.touch(RecordKey::Work(app));
        }
        let mut at = 0;
        while at < queue.len() {
            let may_run = at == 0 || queue[at].kind.overtakes();
            if may_run {
                self.carry_on(now, app, &mut queue[at], effects);
            }
            if may_run && queue[at].is_over() {
                let finished = queue.remove(at).expect("the index is within the queue");
                if finished.has_specs() {
                    self.touch(RecordKey::Spec(app));
                }
                self.skip_dependents(app, &finished);
                self.close(finished.ticket, effects);
                at = 0;
            } else {
                at += 1;
            }
        }
        let entry = self.apps.get_mut(&app).expect("nothing removes an app while its queue is out");
        entry.operations = queue;
        if entry.operations.is_empty() && self.members(app).next().is_none() {
            self.apps.remove(&app);
            self.touch(RecordKey::Spec(app));
            effects.push(Effect::AppRemoved { app });
        }
    }

    /// What is being done to a process, or is next.
    #[must_use]
    pub fn under_way(&self, now: Moment, process: &Process) -> Option<UnderWay> {
        let id = process.id;
        let operation = self.apps[&process.app].operations.iter().find(|operation| operation.concerns(id))?;
        let stage = match operation.begun {
            false => Stage::Waits { held: operation.held.clone() },
            true if operation.transaction.watches(id) => {
                let left = operation.deadline().map(|until| until.since(now));
                Stage::Watched { left_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)) }
            }
            true if operation.active.contains(&id) => Stage::Now,
            true => Stage::Later,
        };
        Some(UnderWay { verb: operation.kind.verb().to_owned(), stage })
    }

    pub(crate) fn report(&mut self, ticket: Option<Ticket>, app: AppId, id: ProcessId, kind: Kind, verdict: Verdict) {
        let Some(wait) = ticket.and_then(|ticket| self.waits.get_mut(&ticket)) else { return };
        let name = self.apps.get(&app).map(|app| app.spec.name.clone()).unwrap_or_default();
        let line = ReportLine { id: id.0, name, verb: kind.verb().to_owned(), verdict };
        // What was done and is undone again counts as undone.
        let same = wait.report.lines.iter_mut().find(|old| old.id == line.id && old.verb == line.verb);
        match same.map(|old| &mut old.verdict) {
            Some(Verdict::Failed { reason, .. }) if line.verdict == Verdict::RolledBack => {
                reason.push_str("; the previous release was started again");
            }
            Some(old) if *old == Verdict::Done => *old = line.verdict,
            Some(_) | None => wait.report.lines.push(line),
        }
    }

    /// One operation of the ticket is over; with the last, the ticket is answered.
    pub(crate) fn close(&mut self, ticket: Option<Ticket>, effects: &mut Vec<Effect>) {
        let Some(ticket) = ticket else { return };
        let Some(wait) = self.waits.get_mut(&ticket) else { return };
        wait.open -= 1;
        if wait.open == 0
            && let Some(wait) = self.waits.remove(&ticket)
        {
            effects.push(Effect::Settle { ticket, answer: Ok(wait.report) });
        }
    }
}

/// What is different after operations have gone on.
fn progress(operations: &VecDeque<Operation>) -> Vec<(bool, bool, usize, usize)> {
    let of = |operation: &Operation| {
        (operation.begun, operation.ticket.is_some(), operation.pending.len(), operation.active.len())
    };
    operations.iter().map(of).collect()
}
