//! App keys: how each is spelled, what values it takes, and what it sets. All of it stands in one table ([`table`]);
//! config files, the command line and a restart with changed options go through it alike, so a key is added in one
//! row (and the field it sets).

pub mod form;
mod members;
mod objects;
pub mod read;
mod row;
pub mod table;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

pub use members::{Member, Mistake};
pub use objects::PROBES;
pub use read::Instances;
use read::Unfit;

use super::{
    Activation, AppSpec, Balance, Confinement, Dependencies, Env, ExecMode, Health, LogTarget, OnReloadFailure,
    Program, QueueRule, Readiness, RestartRule, Sharing, StopRule, interpreter, log_paths, target,
};

/// What was said about one app so far: by its config file, then by the command line, which overrides.
///
/// Nothing is looked up yet: paths are as written and may not exist. Settings that need no looking up have their
/// defaults from the beginning, so a draft says all there is to say about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The script, program or command line.
    pub script: Option<String>,
    /// The name, unless it is to be derived from the script.
    pub name: Option<String>,
    /// The group of apps.
    pub namespace: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// Arguments of the app.
    pub args: Option<Vec<String>>,
    /// The interpreter; `none` executes the script itself.
    pub interpreter: Option<String>,
    /// Arguments of the interpreter.
    pub interpreter_args: Option<Vec<String>>,
    /// How many processes.
    pub instances: Option<Instances>,
    /// Fork or cluster.
    pub mode: Option<ExecMode>,
    /// How connections reach the workers.
    pub balance: Balance,
    /// Which ports the workers share.
    pub sharing: Sharing,
    /// What becomes of connections no worker is ready for.
    pub queue: QueueRule,
    /// Declared variables, `env_NAME` already merged over `env`.
    pub env: Env,
    /// Files of more variables, of which the later win; `env` wins over all.
    pub env_files: Vec<String>,
    /// Name of the variable that holds the instance number.
    pub instance_var: String,
    /// When to start again.
    pub restart: RestartRule,
    /// How to stop.
    pub stop: StopRule,
    /// What makes a process ready.
    pub readiness: Readiness,
    /// How long a process may keep silent.
    pub watchdog: Option<Duration>,
    /// The sockets opened for it, and when none of its processes need run.
    pub activation: Activation,
    /// How health is checked.
    pub health: Option<Health>,
    /// The apps it needs.
    pub depends_on: Dependencies,
    /// What becomes of a reload whose successors fail.
    pub on_reload_failure: OnReloadFailure,
    /// What a process may use and touch, and who it is.
    pub confinement: Confinement,
    /// Where standard output goes.
    pub out: LogTarget,
    /// Where standard error goes.
    pub err: LogTarget,
    /// One log file for all instances.
    pub merge_logs: Option<bool>,
    /// False: registered as stopped.
    pub autostart: bool,
}

impl Default for Draft {
    /// What has a default in an app has the same one here.
    fn default() -> Draft {
        let app = AppSpec::new("", Program::Binary { path: PathBuf::new() }, PathBuf::new());
        Draft {
            script: None,
            name: None,
            namespace: None,
            cwd: None,
            args: None,
            interpreter: None,
            interpreter_args: None,
            instances: None,
            mode: None,
            balance: app.balance,
            sharing: app.sharing,
            queue: app.queue,
            env: app.env,
            env_files: Vec::new(),
            instance_var: app.instance_var,
            restart: app.restart,
            stop: app.stop,
            readiness: app.readiness,
            watchdog: app.watchdog,
            activation: app.activation,
            health: app.health,
            depends_on: app.depends_on,
            on_reload_failure: app.on_reload_failure,
            confinement: app.confinement,
            out: app.logs.out,
            err: app.logs.err,
            merge_logs: None,
            autostart: app.autostart,
        }
    }
}

impl Draft {
    /// The names the app may come to have, the likeliest first: the one given, or else those its script can give it
    /// (whether `my app.js` is a file or a command line is only known once it is looked up).
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match (&self.name, &self.script) {
            (Some(name), _) => vec![name.clone()],
            (None, Some(script)) if script.contains(char::is_whitespace) => {
                vec![interpreter::command_name(script), interpreter::file_stem(script)]
            }
            (None, Some(script)) => vec![interpreter::file_stem(script)],
            (None, None) => Vec::new(),
        }
    }

    /// What can still be changed in an app that exists.
    fn of(spec: &AppSpec) -> Draft {
        Draft {
            env: spec.env.clone(),
            restart: spec.restart.clone(),
            stop: spec.stop.clone(),
            readiness: spec.readiness.clone(),
            watchdog: spec.watchdog,
            activation: spec.activation.clone(),
            health: spec.health.clone(),
            depends_on: spec.depends_on.clone(),
            on_reload_failure: spec.on_reload_failure,
            confinement: spec.confinement.clone(),
            sharing: spec.sharing.clone(),
            out: spec.logs.out.clone(),
            err: spec.logs.err.clone(),
            autostart: spec.autostart,
            ..Draft::default()
        }
    }

    /// The counterpart of [`Draft::of`].
    fn put_into(self, spec: &mut AppSpec) {
        let home = spec.base_env.get("HOME").map(PathBuf::from);
        let place = |target| log_paths::place(target, &spec.cwd, home.as_deref());
        (spec.logs.out, spec.logs.err) = (place(self.out), place(self.err));
        spec.logs.merge = self.merge_logs.unwrap_or(spec.logs.merge);
        (spec.env, spec.restart, spec.stop) = (self.env, self.restart, self.stop);
        (spec.readiness, spec.autostart) = (self.readiness, self.autostart);
        (spec.watchdog, spec.activation) = (self.watchdog, self.activation);
        (spec.confinement, spec.sharing) = (self.confinement, self.sharing);
        spec.health = self.health;
        spec.depends_on = self.depends_on;
        spec.on_reload_failure = self.on_reload_failure;
        for path in &mut spec.confinement.read_only_paths {
            *path = spec.cwd.join(log_paths::expand_home(std::mem::take(path), home.as_deref()));
        }
        if let Some(args) = self.args {
            spec.args = args;
        }
        if let (Some(args), Program::Script { interpreter_args, .. }) = (self.interpreter_args, &mut spec.program) {
            *interpreter_args = args;
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    /// How we write it, in snake_case.
    pub name: &'static str,
    /// Other spellings, in snake_case. The camelCase of each is accepted as well.
    pub aliases: &'static [&'static str],
    /// What values it takes, for the sentence `expected …`.
    pub expects: &'static str,
    /// What a reader is told about it.
    pub about: form::About,
    /// How it is given on the command line, if it can be.
    pub flag: Option<Flag>,
    /// Why it cannot be changed by a restart, if so.
    pub fixed: Option<&'static str>,
    set: fn(&mut Draft, &Value) -> Result<(), Unfit>,
    /// What is wrong inside a value that does not fit, if that can be said.
    inside: fn(&Value) -> Option<Mistake>,
}

/// How a key is given on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub long: &'static str,
    /// The one-letter form.
    pub short: Option<char>,
    /// More long forms.
    pub aliases: &'static [&'static str],
    /// What follows it.
    pub takes: Takes,
    /// The line in `--help`.
    pub help: &'static str,
}

/// What follows a flag. The text is the name of the value in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value.
    Value(&'static str),
    /// One value, which may begin with a dash.
    Dashed(&'static str),
    /// One value; the flag may be repeated.
    Repeated(&'static str),
    /// One or more values, parted by spaces or commas.
    Several(&'static str),
    /// None: the presence of the flag sets the key to this.
    Nothing(bool),
}

impl Key {
    /// Sets the key in `draft`, or tells what was expected and what was found. `null` leaves it as it is.
    pub fn set(&self, draft: &mut Draft, value: &Value) -> Result<(), Mistake> {
        let whole = || Mistake::whole(members::expected(self.expects, value));
        match value {
            Value::Null => Ok(()),
            _ => (self.set)(draft, value).map_err(|Unfit| (self.inside)(value).unwrap_or_else(whole)),
        }
    }

    /// Checks one word of the command line; what was typed is shown by the caller.
    pub fn check_word(&self, word: &str) -> Result<Value, String> {
        let value = Value::String(word.to_owned());
        (self.set)(&mut Draft::default(), &value).map(|()| value).map_err(|Unfit| format!("expected {}", self.expects))
    }

    fn is_spelled(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// What a spelling comes to.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A key.
    Known(&'static Key),
    /// A key of PM2's that changes nothing here: accepted, without effect.
    Ignored,
    /// A key of PM2's that is not supported yet. Harmless if its value says `off`.
    Unsupported,
    /// No key; and the known spelling nearest to it, if any is near.
    Unknown {
        /// Nearest known spelling.
        nearest: Option<String>,
    },
}

/// Finds what a spelling, snake_case or camelCase, stands for.
#[must_use]
pub fn look_up(spelling: &str) -> Lookup {
    let name = snake_case(spelling);
    if let Some(key) = table::KEYS.iter().find(|key| key.is_spelled(&name)) {
        Lookup::Known(key)
    } else if table::IGNORED.contains(&name.as_str()) {
        Lookup::Ignored
    } else if table::UNSUPPORTED.contains(&name.as_str()) {
        Lookup::Unsupported
    } else {
        Lookup::Unknown { nearest: nearest(&name, &[]) }
    }
}

/// Sentence for a key that is not supported yet.
#[must_use]
pub fn unsupported(spelling: &str) -> String {
    format!("`{spelling}` is a PM2 key that pmr does not support yet")
}

/// The known spelling, or one of `others`, that is nearest to `name`.
pub(super) fn nearest(name: &str, others: &[&str]) -> Option<String> {
    let spelled = name.replace('-', "_").to_lowercase();
    let keys = table::KEYS.iter().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()));
    let all: Vec<&str> = keys.chain(table::UNSUPPORTED.iter().copied()).chain(others.iter().copied()).collect();
    // A letter more or less, or two swapped, counts as near also in a short word, where likeness is low.
    let slip = |known: &&str| spelled.len() > 2 && strsim::osa_distance(known, &spelled) == 1;
    let slipped = all.iter().copied().find(|known| *known == spelled).or_else(|| all.iter().copied().find(slip));
    slipped.map(str::to_owned).or_else(|| target::similar(&spelled, &all).into_iter().next())
}

/// `maxMemoryRestart` → `max_memory_restart`; a name with underscores stays as it is.
fn snake_case(name: &str) -> String {
    if name.contains('_') || name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return name.to_owned();
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Changes an existing app as `restart` and `reload` do. All settings are checked before the first is applied: an
/// error, the key and what is wrong with it, leaves the app as it was.
pub fn apply_changes(spec: &mut AppSpec, settings: &[(String, Value)]) -> Result<(), (String, String)> {
    let mut draft = Draft::of(spec);
    for (name, value) in settings {
        change(spec, &mut draft, name, value).map_err(|why| (name.clone(), why))?;
    }
    let mut changed = spec.clone();
    draft.put_into(&mut changed);
    match changed.contradiction() {
        // What was there before is nobody's fault now.
        Some((key, why)) if !settings.is_empty() => return Err((key.to_owned(), why)),
        Some(_) | None => *spec = changed,
    }
    Ok(())
}

fn change(spec: &AppSpec, draft: &mut Draft, name: &str, value: &Value) -> Result<(), String> {
    let key = match look_up(name) {
        Lookup::Known(key) => key,
        Lookup::Ignored => return Ok(()),
        Lookup::Unsupported => return Err(unsupported(name)),
        Lookup::Unknown { .. } => return Err("there is no such setting".to_owned()),
    };
    if let Some(why) = key.fixed {
        return Err(why.to_owned());
    }
    match (key.name, &spec.program) {
        ("args", Program::CommandLine { .. }) => return Err("the app is a command line, which has none".to_owned()),
        ("interpreter_args", Program::CommandLine { .. } | Program::Binary { .. }) => {
            return Err("the app has no interpreter".to_owned());
        }
        _ => {}
    }
    key.set(draft, value).map_err(|mistake| mistake.to_string())
}

#[cfg(test)]
mod tests;
