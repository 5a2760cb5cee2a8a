//! What must hold after every input, whatever happened before.

use std::collections::BTreeMap;

use super::history::History;
use crate::supervisor::{AppId, Effect, Goal, Kind, Process, State, Supervisor};

/// True if clients of the process are served.
pub fn serves(process: &Process) -> bool {
    process.serves()
}

/// Serving processes of each app.
pub fn serving(history: &History) -> BTreeMap<AppId, usize> {
    let mut counts = BTreeMap::new();
    for process in history.supervisor.processes().filter(|process| serves(process)) {
        *counts.entry(process.app).or_default() += 1;
    }
    counts
}

/// Restarts of all processes, and how many of the app's rest and serve.
#[derive(Debug, PartialEq, Eq)]
pub struct Demand {
    restarts: u32,
    resting: usize,
    serving: usize,
}

/// As it is now.
pub fn demand(history: &History, app: AppId) -> Demand {
    let members = || history.supervisor.members(app).filter(|process| process.goal == Goal::Up);
    Demand {
        restarts: history.supervisor.processes().map(|process| process.restarts).sum(),
        resting: members().filter(|process| process.rests()).count(),
        serving: members().filter(|process| serves(process)).count(),
    }
}

/// An app that is wanted wakes one process, unless all is going down. No other changes, and no restart is counted.
pub fn check_wanted(history: &History, before: &Demand, app: AppId) {
    let wakes = usize::from(!history.supervisor.is_closing() && before.resting > 0);
    let after = demand(history, app);
    let expected = Demand { resting: before.resting - wakes, ..*before };
    assert_eq!(after, expected, "{app:?} is wanted");
}

/// An app that is not needed keeps the fewest processes it may, and no restart is counted.
pub fn check_unneeded(history: &History, before: &Demand, app: AppId) {
    let after = demand(history, app);
    let least = history.supervisor.app(app).map_or(0, |app| app.spec.activation.min_instances.unwrap_or(0) as usize);
    assert_eq!(after.restarts, before.restarts, "rest is no restart");
    assert_eq!(after.serving + after.resting, before.serving + before.resting, "{app:?} loses somebody");
    assert!(after.serving == before.serving || after.serving == least.min(before.serving), "{app:?}: {after:?}");
}

/// All that must hold of the state as it is; `changed` if the last input had effects.
pub fn check(history: &History, changed: bool) {
    runs_are_answered_for_once(history);
    goals_and_states_agree(history);
    listeners_are_open_while_wanted(history);
    ready_runs_serve(history);
    if changed {
        apps_are_whole(history);
    }
    tickets_wait_for_their_operations(history);
    let waiting = history.supervisor.waits.keys();
    assert!(
        history.open.iter().eq(waiting),
        "tickets not answered: {:?}, known: {:?}",
        history.open,
        history.supervisor.waits
    );
}

/// A ticket is answered with the last of its operations, and with no earlier one.
fn tickets_wait_for_their_operations(history: &History) {
    let operations = || history.supervisor.apps.values().flat_map(|app| &app.operations);
    for (ticket, wait) in &history.supervisor.waits {
        let open = operations().filter(|operation| operation.ticket == Some(*ticket)).count();
        assert_eq!(open, wait.open, "{ticket:?} waits for a wrong count of operations");
    }
    let known = |ticket| history.supervisor.waits.contains_key(ticket);
    assert!(operations().filter_map(|operation| operation.ticket.as_ref()).all(known), "a ticket was answered early");
}

fn runs_are_answered_for_once(history: &History) {
    let supervisor = &history.supervisor;
    let mut held = 0;
    for process in supervisor.processes.values() {
        for run in process.runs() {
            held += 1;
            assert_eq!(supervisor.runs.get(&run), Some(&process.id), "the index errs about {run:?}");
            assert!(history.os.bodies.contains_key(&run), "{run:?} is dead: {process:?}");
        }
    }
    assert_eq!(held, supervisor.runs.len(), "the index has more than there is: {:?}", supervisor.runs);
    assert_eq!(held, history.os.bodies.len(), "nobody answers for some of {:?}", history.os.bodies.keys());
}

/// A run is given connections from the moment it is ready, and not before.
fn ready_runs_serve(history: &History) {
    for (run, body) in &history.os.bodies {
        let process = history.supervisor.process_of(*run);
        let is_ready = process.is_some_and(|process| process.serving().any(|(ready, _)| ready == *run));
        assert!(body.serves || !is_ready, "{run:?} is ready and is given nothing: {process:?}");
        let launches = |process: &Process| matches!(process.state, State::Launching { run: new, .. } if new == *run);
        assert!(!body.serves || !process.is_some_and(launches), "{run:?} is given connections and is not ready");
    }
}

fn is_down(supervisor: &Supervisor, app: AppId) -> bool {
    supervisor.app(app).is_some()
        && supervisor.members(app).all(|process| process.goal != Goal::Up && process.runs().count() == 0)
}

/// An app that is down has closed its listeners. They are open while a process runs, or is idle.
fn listeners_are_open_while_wanted(history: &History) {
    let supervisor = &history.supervisor;
    for app in supervisor.apps.keys() {
        let is_open = history.os.listening.contains(app);
        let needs = |process: &Process| process.runs().count() > 0 || process.state == State::Idle;
        assert!(!is_open || !is_down(supervisor, *app), "{app:?} is down, and its listeners are open");
        assert!(is_open || !supervisor.members(*app).any(needs), "the listeners of {app:?} are closed");
    }
    let known = |app: &AppId| supervisor.app(*app).is_some();
    assert!(history.os.listening.iter().all(known), "listeners of apps that are gone are open");
}

fn goals_and_states_agree(history: &History) {
    for process in history.supervisor.processes() {
        let fits = match &process.state {
            State::Stopped => process.goal == Goal::Down && process.is_empty(),
            State::Launching { .. }
            | State::Canary { .. }
            | State::Online(_)
            | State::Waiting { .. }
            | State::Idle
            | State::Errored => process.goal == Goal::Up,
            State::Stopping(_) => true,
        };
        assert!(fits, "goal and state disagree: {process:?}");
        let most = history.supervisor.apps[&process.app].spec.restart.max_restarts;
        assert!(process.history.unstable() < most.max(1) + 16, "the history grows: {process:?}");
        let down = history.expectations.expected_up.get(&process.id) == Some(&false)
            || history.expectations.quiet.contains(&process.app);
        // A stop may wait until those that depend on the app have stopped.
        let waits =
            history.supervisor.apps[&process.app].operations.iter().any(|it| it.wish(process.id) == Some(false));
        assert!(!down || process.goal != Goal::Up || waits, "it was to be down: {process:?}");
    }
}

fn apps_are_whole(history: &History) {
    let supervisor = &history.supervisor;
    for app in supervisor.apps.values() {
        let members: Vec<&Process> = supervisor.members(app.id).collect();
        assert!(!members.is_empty() || !app.operations.is_empty(), "an app of nothing: {app:?}");
        let mut instances: Vec<u32> = members.iter().map(|process| process.instance).collect();
        instances.sort_unstable();
        instances.dedup();
        assert_eq!(instances.len(), members.len(), "two processes have one instance number: {members:?}");
        let under_way: Vec<_> = app.operations.iter().filter(|operation| operation.is_under_way()).collect();
        assert!(under_way.len() <= 1, "operations at the same time: {under_way:?}");
        let replacing = members.iter().filter(|process| matches!(process.state, State::Launching { old: Some(_), .. }));
        let most = match under_way.first() {
            Some(operation) if operation.kind == Kind::Reload => operation.parallel,
            Some(_) | None => 0,
        };
        assert!(replacing.count() <= most, "a reload goes too fast, at most {most}: {members:?}");
        let tries = under_way.first().is_some_and(|operation| operation.transaction.tries());
        let on_trial = members.iter().any(|process| matches!(process.state, State::Canary { .. }));
        assert!(tries || !on_trial, "nobody judges a canary: {members:?}");
    }
}

/// What must hold of a list of effects: nothing is started that shall not run, removals are told once and truly.
pub fn check_effects(history: &History, effects: &[Effect], before: &[AppId]) {
    let supervisor = &history.supervisor;
    for (at, effect) in effects.iter().enumerate() {
        match effect {
            Effect::Spawn { run, process } => {
                let up = supervisor.process(*process).is_some_and(|process| process.goal == Goal::Up);
                let goes = |later: &Effect| {
                    let (Effect::Terminate { run: other } | Effect::Drain { run: other, .. }) = later else {
                        return false;
                    };
                    other == run
                };
                let taken_back = effects[at..].iter().any(goes);
                assert!(up || taken_back, "{process:?} is started and shall not run");
            }
            Effect::AppRemoved { app } => {
                assert!(before.contains(app) && supervisor.app(*app).is_none(), "{app:?} is not gone");
                assert_eq!(effects.iter().filter(|other| *other == effect).count(), 1, "{app:?} removed twice");
            }
            Effect::CloseListeners { app } => {
                assert!(is_down(supervisor, *app), "the listeners of {app:?} close, and it is not down");
            }
            Effect::Publish { .. }
            | Effect::Serve { .. }
            | Effect::UpdatePidFile { .. }
            | Effect::WatchForDemand { .. }
            | Effect::ProcessRemoved { .. }
            | Effect::Settle { .. }
            | Effect::Admit { .. }
            | Effect::Eject { .. }
            | Effect::Drain { .. }
            | Effect::Terminate { .. }
            | Effect::Kill { .. }
            | Effect::Signal { .. } => {}
        }
    }
    for app in before {
        let told = effects.contains(&Effect::AppRemoved { app: *app });
        assert_eq!(told, supervisor.app(*app).is_none(), "{app:?} went, or stayed, in silence");
    }
}
