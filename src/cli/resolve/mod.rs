//! Completes a draft to an [`AppSpec`]: finds the script, its interpreter, the directory and the files of variables on
//! this machine, or fails with the reason. The daemon trusts the result.

mod caller;
mod env_file;
mod input_error;
mod path;
mod script;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use caller::{Caller, base_env};
pub use input_error::{InputError, reason};
pub use path::absolute;

use crate::spec::keys::Draft;
use crate::spec::{
    AppSpec, Confinement, DEFAULT_NAMESPACE, ExecMode, LogSpec, interpreter, keys::Instances, log_paths,
};
use script::Found;

/// Completes a draft.
pub fn resolve(draft: Draft, caller: &Caller) -> Result<AppSpec, InputError> {
    let cwd = directory(&draft, caller)?;
    let found = script::find(&draft, &cwd, caller)?;
    let program = script::program(&draft, &found, &cwd, caller)?;
    let name = name(&draft, &found)?;
    let mode = mode(&draft);
    let merge = draft.merge_logs.unwrap_or(merges_by_default(&draft));
    let place = |target| log_paths::place(target, &cwd, caller.home());
    let mut spec = AppSpec {
        name,
        namespace: draft.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        args: draft.args.unwrap_or_default(),
        mode,
        instances: draft.instances.map_or(1, |instances| instances.on(caller.cpus)),
        balance: draft.balance,
        sharing: draft.sharing,
        queue: draft.queue,
        base_env: std::sync::Arc::default(),
        env: env_file::declared(&draft.env_files, draft.env, &cwd, caller)?,
        instance_var: draft.instance_var,
        restart: draft.restart,
        stop: draft.stop,
        readiness: draft.readiness,
        watchdog: draft.watchdog,
        activation: draft.activation,
        health: draft.health,
        depends_on: draft.depends_on,
        on_reload_failure: draft.on_reload_failure,
        confinement: confinement(draft.confinement, &cwd, caller),
        logs: LogSpec { out: place(draft.out), err: place(draft.err), merge },
        autostart: draft.autostart,
        version: version(found.path().and_then(Path::parent).unwrap_or(&cwd)),
        program,
        cwd,
    };
    script::append_args(&mut spec);
    spec.set_base_env(caller.env.clone());
    match spec.contradiction() {
        Some((key, why)) => Err(InputError::new(format!("`{key}`: {why}"))),
        None => Ok(spec),
    }
}

/// The mode of an app. Processes with sockets in `listen` share them, so they are a cluster.
fn mode(draft: &Draft) -> ExecMode {
    match draft.mode {
        None if !draft.activation.listen.is_empty() => ExecMode::Cluster,
        mode => interpreter::exec_mode(mode, draft.instances),
    }
}

/// Completes all the drafts of a file. The error names the app.
pub fn resolve_all(drafts: Vec<Draft>, caller: &Caller) -> Result<Vec<AppSpec>, InputError> {
    let alone = drafts.len() == 1;
    let one = |draft: Draft| {
        let name = draft.names().into_iter().next().unwrap_or_default();
        resolve(draft, caller).map_err(|error| match alone {
            true => error,
            false => InputError { message: format!("{name}: {}", error.message), ..error },
        })
    };
    drafts.into_iter().map(one).collect()
}

fn confinement(mut confinement: Confinement, cwd: &Path, caller: &Caller) -> Confinement {
    for path in &mut confinement.read_only_paths {
        *path = absolute(&path.to_string_lossy(), cwd, caller.home());
    }
    confinement
}

/// PM2's rule: one log per stream unless a definite number of processes, or a cluster, is set.
fn merges_by_default(draft: &Draft) -> bool {
    matches!(draft.instances, None | Some(Instances::Max)) && draft.mode != Some(ExecMode::Cluster)
}

fn directory(draft: &Draft, caller: &Caller) -> Result<PathBuf, InputError> {
    let Some(written) = &draft.cwd else { return Ok(caller.cwd.clone()) };
    let cwd = absolute(written, &caller.cwd, caller.home());
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

/// The name of a draft's app, for commands that only need the names in a config file. Also works if the script no
/// longer exists.
pub fn app_name(draft: &Draft, caller: &Caller) -> Option<String> {
    let found = || script::find(draft, &directory(draft, caller).ok()?, caller).ok();
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

#[cfg(test)]
mod tests;
