//! The log files of a process, named as in PM2.

use std::path::{Path, PathBuf};

use super::{AppSpec, LogTarget};

/// The files of one process. `None`: the stream is discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPaths {
    /// Standard output.
    pub out: Option<PathBuf>,
    /// Standard error.
    pub err: Option<PathBuf>,
}

/// The log files of the process `process_id` of `spec`. Files without a configured path are in `logs_dir`.
///
/// Unless logs are merged, the id stands before `.log`, also in a configured path. A configured path without `.log` at
/// its end is shared by all processes.
#[must_use]
pub fn log_paths(logs_dir: &Path, spec: &AppSpec, process_id: u32) -> LogPaths {
    let path = |target: &LogTarget, stream: &str| match target {
        LogTarget::Default => Some(logs_dir.join(format!("{}-{stream}.log", sanitised(&spec.name)))),
        LogTarget::File(path) => Some(path.clone()),
        LogTarget::Discard => None,
    };
    let numbered = |path: PathBuf| if spec.logs.merge { path } else { with_id(path, process_id) };
    LogPaths { out: path(&spec.logs.out, "out").map(numbered), err: path(&spec.logs.err, "error").map(numbered) }
}

/// Name of the pid file of a process.
#[must_use]
pub fn pid_file_name(spec: &AppSpec, process_id: u32) -> String {
    format!("{}-{process_id}.pid", sanitised(&spec.name))
}

/// Makes the path of a target absolute: `~` is the home of the app's user, and relative paths start at `cwd`.
#[must_use]
pub fn place(target: LogTarget, cwd: &Path, home: Option<&Path>) -> LogTarget {
    match target {
        LogTarget::File(path) => LogTarget::File(cwd.join(expand_home(path, home))),
        LogTarget::Default | LogTarget::Discard => target,
    }
}

/// Replaces the `~` of `~` and `~/x` by the home.
#[must_use]
pub fn expand_home(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home.to_owned(),
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

/// A name as part of a file name: any character other than an ASCII letter, a digit, `.`, `-` or `\` becomes `-`.
fn sanitised(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '\\') { c } else { '-' }).collect()
}

fn with_id(path: PathBuf, process_id: u32) -> PathBuf {
    match path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log")) {
        Some(stem) => path.with_file_name(format!("{stem}-{process_id}.log")),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LogSpec, sample};

    fn paths(name: &str, out: LogTarget, merge: bool) -> LogPaths {
        let spec = AppSpec { name: name.into(), logs: LogSpec { out, err: LogTarget::Default, merge }, ..sample() };
        log_paths(Path::new("/l"), &spec, 7)
    }

    #[test]
    fn log_files_are_named_as_in_pm2() {
        for (name, out, merge, expected) in [
            ("api", LogTarget::Default, true, Some("/l/api-out.log")),
            ("api", LogTarget::Default, false, Some("/l/api-out-7.log")),
            ("my_api/é v1.2", LogTarget::Default, true, Some("/l/my-api---v1.2-out.log")),
            ("../../etc", LogTarget::Default, true, Some("/l/..-..-etc-out.log")),
            ("api", LogTarget::File("/v/x.log".into()), true, Some("/v/x.log")),
            ("api", LogTarget::File("/v/x.log".into()), false, Some("/v/x-7.log")),
            ("api", LogTarget::File("/v/x.txt".into()), false, Some("/v/x.txt")),
            ("api", LogTarget::File("/v.log/x".into()), false, Some("/v.log/x")),
            ("api", LogTarget::Discard, false, None),
        ] {
            assert_eq!(
                paths(name, out.clone(), merge).out.as_deref(),
                expected.map(Path::new),
                "{name} {out:?} {merge}"
            );
        }
        assert_eq!(paths("api", LogTarget::Discard, false).err.as_deref(), Some(Path::new("/l/api-error-7.log")));
        assert_eq!(pid_file_name(&AppSpec { name: "a b".into(), ..sample() }, 3), "a-b-3.pid");
    }

    #[test]
    fn paths_are_made_absolute() {
        for (path, expected) in [
            ("x.log", "/srv/x.log"),
            ("/x.log", "/x.log"),
            ("~/x.log", "/home/u/x.log"),
            ("~", "/home/u"),
            ("~x/y", "/srv/~x/y"),
        ] {
            let placed = place(LogTarget::File(path.into()), Path::new("/srv"), Some(Path::new("/home/u")));
            assert_eq!(placed, LogTarget::File(expected.into()));
        }
        assert_eq!(place(LogTarget::Discard, Path::new("/"), None), LogTarget::Discard);
    }
}
