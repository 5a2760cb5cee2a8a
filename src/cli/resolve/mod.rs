//! A draft → a complete [`AppSpec`]: looks up the script, its interpreter, the directory and the files of variables
//! on this machine, and fails with the reason if one is missing. The daemon trusts what comes out.

mod env_file;
mod path;
mod script;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use path::absolute;

use crate::spec::keys::Draft;
use crate::spec::{
    AppSpec, Confinement, DEFAULT_NAMESPACE, Env, ExecMode, LogSpec, interpreter, keys::Instances, log_paths,
};
use script::Found;

/// What the user gave cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// What is wrong with what; several lines if there are several mistakes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl InputError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> InputError {
        InputError { message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> InputError {
        InputError { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InputError {}

/// Where and as whom the user speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The absolute directory the user is in.
    pub cwd: PathBuf,
    /// The user's environment, as an app may see it.
    pub env: Env,
    /// How many processors there are, at least 1.
    pub cpus: u32,
}

impl Context {
    /// That of this process. Fails if the current directory is gone.
    pub fn current() -> Result<Context, InputError> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let all: Env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        let cwd = std::env::current_dir()
            .map_err(|error| InputError::new(format!("the current directory cannot be told: {error}")))?;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Context {
            cwd: path::logical(cwd, all.get("PWD")),
            env: base_env(all),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.env.get("HOME").map(Path::new)
    }
}

/// Variables by which a supervisor talks to one process: no use to any other, and harmful to one that believes them.
const OF_ONE_PROCESS: &[&str] = &[
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
    "PMR_CHANNEL_FD",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "PMR_CHECK",
    "PMR_PID",
];

/// Variables that say which app of pmr or PM2 a process is.
const OF_A_MANAGED_APP: &[&str] = &[
    "pm_id",
    "name",
    "namespace",
    "status",
    "exec_mode",
    "exec_interpreter",
    "instances",
    "instance_var",
    "NODE_APP_INSTANCE",
    "pm_exec_path",
    "pm_cwd",
    "pm_out_log_path",
    "pm_err_log_path",
    "pm_pid_path",
    "autorestart",
    "autostart",
    "automation",
    "pmx",
    "treekill",
    "vizion",
    "vizion_running",
    "watch",
    "windowsHide",
    "username",
    "kill_retry_time",
    "km_link",
    "merge_logs",
    "created_at",
    "pm_uptime",
    "restart_time",
    "unstable_restarts",
    "unique_id",
    "PM2_USAGE",
    "node_args",
    "axm_actions",
    "axm_monitor",
    "axm_options",
    "axm_dynamic",
];

/// A caller's environment as its apps may have it: without what belongs to the caller's own process, if that is an app
/// of ours (or of PM2's) itself.
#[must_use]
pub fn base_env(mut env: Env) -> Env {
    for name in OF_ONE_PROCESS {
        env.remove(*name);
    }
    if env.contains_key("pm_id") {
        if let Some(renamed) = env.remove("instance_var") {
            env.remove(&renamed);
        }
        for name in OF_A_MANAGED_APP {
            env.remove(*name);
        }
    }
    env
}

/// Completes a draft.
pub fn resolve(draft: Draft, context: &Context) -> Result<AppSpec, InputError> {
    let cwd = directory(&draft, context)?;
    let found = script::find(&draft, &cwd, context)?;
    let program = script::program(&draft, &found, &cwd, context)?;
    let name = name(&draft, &found)?;
    let mode = mode(&draft);
    let merge = draft.merge_logs.unwrap_or(merges_by_default(&draft));
    let place = |target| log_paths::place(target, &cwd, context.home());
    let mut spec = AppSpec {
        name,
        namespace: draft.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        args: draft.args.unwrap_or_default(),
        mode,
        instances: draft.instances.map_or(1, |instances| instances.on(context.cpus)),
        balance: draft.balance,
        sharing: draft.sharing,
        queue: draft.queue,
        base_env: std::sync::Arc::default(),
        env: env_file::declared(&draft.env_files, draft.env, &cwd, context)?,
        instance_var: draft.instance_var,
        restart: draft.restart,
        stop: draft.stop,
        readiness: draft.readiness,
        watchdog: draft.watchdog,
        activation: draft.activation,
        health: draft.health,
        depends_on: draft.depends_on,
        on_reload_failure: draft.on_reload_failure,
        confinement: confinement(draft.confinement, &cwd, context),
        logs: LogSpec { out: place(draft.out), err: place(draft.err), merge },
        autostart: draft.autostart,
        version: version(found.path().and_then(Path::parent).unwrap_or(&cwd)),
        program,
        cwd,
    };
    script::append_args(&mut spec);
    spec.set_base_env(context.env.clone());
    match spec.contradiction() {
        Some((key, why)) => Err(InputError::new(format!("`{key}`: {why}"))),
        None => Ok(spec),
    }
}

/// Processes that are given their sockets share them.
fn mode(draft: &Draft) -> ExecMode {
    match draft.mode {
        None if !draft.activation.listen.is_empty() => ExecMode::Cluster,
        said => interpreter::exec_mode(said, draft.instances),
    }
}

/// Completes all the drafts of a file, or none: the error names the app.
pub fn resolve_all(drafts: Vec<Draft>, context: &Context) -> Result<Vec<AppSpec>, InputError> {
    let alone = drafts.len() == 1;
    let one = |draft: Draft| {
        let name = draft.names().into_iter().next().unwrap_or_default();
        resolve(draft, context).map_err(|error| match alone {
            true => error,
            false => InputError { message: format!("{name}: {}", error.message), ..error },
        })
    };
    drafts.into_iter().map(one).collect()
}

fn confinement(mut confinement: Confinement, cwd: &Path, context: &Context) -> Confinement {
    for path in &mut confinement.read_only_paths {
        *path = absolute(&path.to_string_lossy(), cwd, context.home());
    }
    confinement
}

/// PM2's rule: one log per stream unless a definite number of processes, or a cluster, was asked for.
fn merges_by_default(draft: &Draft) -> bool {
    matches!(draft.instances, None | Some(Instances::Max)) && draft.mode != Some(ExecMode::Cluster)
}

fn directory(draft: &Draft, context: &Context) -> Result<PathBuf, InputError> {
    let Some(written) = &draft.cwd else { return Ok(context.cwd.clone()) };
    let cwd = absolute(written, &context.cwd, context.home());
    match std::fs::metadata(&cwd) {
        Ok(metadata) if metadata.is_dir() => Ok(cwd),
        Ok(_) => Err(InputError::new(format!("the working directory {} is not a directory", cwd.display()))),
        Err(error) => Err(InputError::new(format!("the working directory {}: {}", cwd.display(), reason(&error)))
            .hint("`cwd` (--cwd) must exist before the app is started")),
    }
}

fn name(draft: &Draft, found: &Found) -> Result<String, InputError> {
    let name = draft.name.clone().unwrap_or_else(|| found.default_name());
    if name == "all" || name.is_empty() || name.chars().any(char::is_control) {
        return Err(InputError::new(format!("an app cannot be called {name:?}")).hint("give it another name by --name"));
    }
    Ok(name)
}

/// The name the app of a draft has or would have, for commands that only name what a config file declares. A script
/// that is gone gives its name all the same.
pub fn app_name(draft: &Draft, context: &Context) -> Option<String> {
    let found = || script::find(draft, &directory(draft, context).ok()?, context).ok();
    match &draft.name {
        Some(name) => Some(name.clone()),
        None => found().map(|found| found.default_name()).or_else(|| draft.names().into_iter().next()),
    }
}

/// `version` of the nearest package.json at or above `from`.
fn version(from: &Path) -> Option<String> {
    let text = from.ancestors().find_map(|dir| std::fs::read_to_string(dir.join("package.json")).ok())?;
    let package: Value = serde_json::from_str(&text).ok()?;
    package.get("version")?.as_str().map(str::to_owned)
}

/// The system's words for an error, without its number.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
