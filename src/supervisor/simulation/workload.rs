//! What clients ask in a simulated history: random apps, verbs and selectors.

use std::path::PathBuf;
use std::time::Duration;

use super::rng::Rng;
use crate::protocol::{Action, Canary, Changes, Launch, Rollout, Scale, Share};
use crate::spec::dependency::Condition;
use crate::spec::health::{OnFail, Probe};
use crate::spec::target::Selector;
use crate::spec::{
    Activation, AppSpec, Balance, Dependencies, ExecMode, LogSpec, OnReloadFailure, Program, Readiness, RestartRule,
    Sharing, StopRule,
};
use crate::supervisor::{Request, Supervisor};

/// Names of the simulated apps. How each is stopped is fixed by its name, all else changes with every launch.
const NAMES: [&str; 3] = ["api", "web", "job"];
/// From this many processes on, few new ones are asked for.
const CROWD: usize = 9;

/// An app as random as its rules allow.
pub fn spec(rng: &mut Rng, name: &str) -> AppSpec {
    let millis = Duration::from_millis;
    let (kill, drain) = match name {
        "api" => (1600, 9000),
        "web" => (500, 0),
        _ => (0, 4000),
    };
    let base_env = std::sync::Arc::new([("TRY".to_owned(), rng.below(100).to_string())].into());
    AppSpec {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        program: Program::Binary { path: PathBuf::from("/bin/app") },
        args: vec![],
        cwd: PathBuf::from("/"),
        mode: if rng.percent(65) { ExecMode::Cluster } else { ExecMode::Fork },
        instances: u32::try_from(1 + rng.below(3)).expect("small"),
        balance: Balance::RoundRobin,
        sharing: Sharing::default(),
        queue: crate::spec::QueueRule::default(),
        base_env,
        env: std::collections::BTreeMap::new(),
        instance_var: "NODE_APP_INSTANCE".to_owned(),
        restart: RestartRule {
            autorestart: rng.percent(85),
            max_restarts: rng.pick(&[1, 2, 3, 16]),
            min_uptime: millis(1000),
            delay: rng.pick(&[millis(0), millis(0), millis(700)]),
            backoff: rng.pick(&[None, None, Some(millis(100)), Some(millis(0))]),
            stop_exit_codes: rng.pick(&[vec![], vec![], vec![0]]),
            max_memory: rng.pick(&[None, Some(100)]),
        },
        stop: StopRule { kill_timeout: millis(kill), drain_timeout: millis(drain), with_message: false, tree: true },
        readiness: Readiness {
            wait_ready: rng.percent(35),
            listen_timeout: rng.pick(&[None, None, Some(millis(400)), Some(millis(0))]),
        },
        health: rng.percent(30).then(|| crate::spec::Health {
            retries: rng.pick(&[1, 3]),
            on_fail: rng.pick(&[OnFail::Restart, OnFail::Alert]),
            ..crate::spec::Health::new(probe(rng))
        }),
        depends_on: dependencies(rng, name),
        on_reload_failure: rng.pick(&[
            OnReloadFailure::Rollback,
            OnReloadFailure::Rollback,
            OnReloadFailure::Pause,
            OnReloadFailure::Continue,
        ]),
        confinement: crate::spec::Confinement::default(),
        watchdog: if name == "job" { rng.pick(&[None, Some(millis(1500))]) } else { None },
        activation: activation(rng),
        logs: LogSpec::default(),
        autostart: rng.percent(92),
        version: None,
    }
}

/// At an address that anybody may answer at, or by the worker itself.
fn probe(rng: &mut Rng) -> Probe {
    let address = rng.percent(30).then(|| "x:1".to_owned());
    Probe::Http { address, path: "/up".to_owned() }
}

/// Mostly on those that stand before it in a fixed order; now and then on others, which may be refused.
fn dependencies(rng: &mut Rng, name: &str) -> Dependencies {
    let others = NAMES.iter().chain(&["nobody"]).filter(|other| **other != name);
    let likely = |other: &str| match (name, other) {
        ("api", "web" | "job") | ("web", "job") => 25,
        _ => 1,
    };
    let chosen: Vec<&str> = others.copied().filter(|other| rng.percent(likely(other))).collect();
    let condition = |rng: &mut Rng| match rng.below(10) {
        0..4 => Condition::Ready,
        4..6 => Condition::Started,
        6..8 => Condition::Healthy,
        _ => Condition::Completed,
    };
    chosen.into_iter().map(|other| (other.to_owned(), condition(rng))).collect()
}

fn activation(rng: &mut Rng) -> Activation {
    if rng.percent(50) {
        return Activation::default();
    }
    Activation {
        listen: vec!["tcp://:3000".parse().expect("an address")],
        idle_timeout: rng.pick(&[None, Some(Duration::from_secs(5)), Some(Duration::from_secs(5))]),
        min_instances: rng.pick(&[None, Some(0), Some(1)]),
    }
}

/// The same, and it waits for readiness at least until its start has been reported.
pub fn patient(mut spec: AppSpec) -> AppSpec {
    spec.readiness.listen_timeout = spec.readiness.listen_timeout.map(|time| time.max(Duration::from_millis(400)));
    spec
}

/// A random request. `last` is a snapshot of this history, to be restored now and then.
pub fn ask(rng: &mut Rng, supervisor: &Supervisor, last: &super::Snapshot) -> Request {
    let crowded = supervisor.processes().count() >= CROWD;
    match rng.below(100) {
        0..4 => Request::Restore(last.clone()),
        4..8 => launch(rng),
        8..24 if !crowded => launch(rng),
        _ => {
            let action = action(rng, crowded);
            Request::Act { action, target: target(rng, supervisor) }
        }
    }
}

/// A request that, for its part, takes nothing down: a reload, by itself or of the config file.
pub fn reload(rng: &mut Rng, supervisor: &Supervisor) -> Request {
    let rollout = rollout(rng);
    if rng.percent(70) {
        return Request::Act {
            action: Action::Reload { changes: changes(rng), rollout },
            target: target(rng, supervisor),
        };
    }
    let known: Vec<AppSpec> = supervisor.apps().map(|app| AppSpec::clone(&app.spec)).collect();
    let old = rng.pick(&known);
    let fresh = patient(spec(rng, &old.name));
    let depends_on = old.depends_on.clone();
    let apps = vec![AppSpec { mode: old.mode, instances: old.instances, depends_on, ..fresh }];
    Request::Launch { apps, how: Launch::OrReload(rollout) }
}

fn rollout(rng: &mut Rng) -> Rollout {
    let watch = rng.pick(&[0, 300, 5_000, 20_000]);
    let share = rng.pick(&[Share::Count(1), Share::Count(2), Share::Percent(50), Share::Percent(100)]);
    let canary = Canary { share, duration: Duration::from_millis(watch) };
    Rollout {
        parallel: u32::try_from(rng.below(4)).expect("small"),
        force: rng.percent(10),
        canary: rng.percent(40).then_some(canary),
        dry_run: rng.percent(2),
    }
}

fn launch(rng: &mut Rng) -> Request {
    let first = rng.pick(&NAMES);
    let mut apps = vec![spec(rng, first)];
    if rng.percent(25) {
        let second = rng.pick(&NAMES);
        apps.push(spec(rng, second));
    }
    if rng.percent(80) {
        complete(rng, &mut apps);
    }
    let rollout = rollout(rng);
    Request::Launch { apps, how: rng.pick(&[Launch::New, Launch::OrRestart, Launch::OrReload(rollout)]) }
}

/// Adds what the apps depend on, such as it may be.
fn complete(rng: &mut Rng, apps: &mut Vec<AppSpec>) {
    let mut at = 0;
    while let Some(app) = apps.get(at) {
        at += 1;
        for (name, condition) in app.depends_on.clone() {
            if !NAMES.contains(&name.as_str()) || apps.iter().any(|other| other.name == name) {
                continue;
            }
            let mut other = spec(rng, &name);
            if condition == Condition::Completed {
                (other.restart.autorestart, other.activation) = (false, Activation::default());
            }
            apps.push(other);
        }
    }
}

fn action(rng: &mut Rng, crowded: bool) -> Action {
    match rng.below(100) {
        0..14 => Action::Start(changes(rng)),
        14..28 => Action::Restart(changes(rng)),
        28..50 => Action::Reload { changes: changes(rng), rollout: rollout(rng) },
        50..65 => Action::Stop,
        65..74 => Action::Delete,
        74..88 => Action::Scale(scale(rng, crowded)),
        88..92 => Action::Reset,
        92..98 => Action::Signal(10),
        _ => rng.pick(&[Action::Flush, Action::ReopenLogs]),
    }
}

fn scale(rng: &mut Rng, crowded: bool) -> Scale {
    let count = u32::try_from(rng.below(4)).expect("small");
    match rng.below(3) {
        0 => Scale::To(count),
        1 if !crowded => Scale::Up(count),
        _ => Scale::Down(count),
    }
}

fn changes(rng: &mut Rng) -> Changes {
    let base_env = rng.percent(20).then(|| [("TRY".to_owned(), rng.below(100).to_string())].into());
    Changes { settings: vec![], base_env }
}

fn target(rng: &mut Rng, supervisor: &Supervisor) -> Vec<Selector> {
    let ids: Vec<u32> = supervisor.processes().map(|process| process.id.0).chain([99]).collect();
    let one = |rng: &mut Rng| match rng.below(400) {
        0..60 => Selector::All,
        60..220 => Selector::Word(rng.pick(&NAMES).to_owned()),
        220..390 => Selector::Word(rng.pick(&ids).to_string()),
        390..399 => Selector::Word("default".to_owned()),
        _ => Selector::Pattern("^w".to_owned()),
    };
    let mut target = vec![one(rng)];
    if rng.percent(15) {
        target.push(one(rng));
    }
    target
}
