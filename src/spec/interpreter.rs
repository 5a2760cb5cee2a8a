//! Which interpreter runs which script, told by its name and its first bytes; and what an app is called that was not
//! given a name. Looking into files and the PATH is done by the caller.

use std::path::Path;

use super::keys::read::Instances;
use super::rules::{ExecMode, Program};
use super::value::split_words;

/// How many bytes of a file [`sniff`] wants to see.
pub const HEAD: usize = 512;

/// What a file's extension says about who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The first of these that is in PATH.
    OneOf(&'static [&'static str]),
    /// Bun if it is in PATH, else a Node that can (see [`typescript_args`]).
    TypeScript,
    /// Bun: no Node reads JSX.
    TypeScriptJsx,
}

const BY_EXTENSION: &[(&str, Runner)] = &[
    ("js", Runner::OneOf(&["node"])),
    ("mjs", Runner::OneOf(&["node"])),
    ("cjs", Runner::OneOf(&["node"])),
    ("ts", Runner::TypeScript),
    ("mts", Runner::TypeScript),
    ("cts", Runner::TypeScript),
    ("tsx", Runner::TypeScriptJsx),
    ("sh", Runner::OneOf(&["bash", "sh"])),
    ("py", Runner::OneOf(&["python", "python3"])),
    ("rb", Runner::OneOf(&["ruby"])),
    ("php", Runner::OneOf(&["php"])),
    ("pl", Runner::OneOf(&["perl"])),
    ("coffee", Runner::OneOf(&["coffee"])),
    ("ls", Runner::OneOf(&["lsc"])),
];

/// Who runs files with this one's extension.
#[must_use]
pub fn by_extension(script: &Path) -> Option<Runner> {
    let extension = script.extension()?.to_str()?;
    BY_EXTENSION.iter().find(|(known, _)| *known == extension).map(|(_, runner)| *runner)
}

/// What the first bytes of a file say it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Machine code or other data: executed directly.
    Binary,
    /// A script that names its interpreter.
    Shebang {
        /// A path, or a name to look up in PATH if it stood after `env`.
        interpreter: String,
        /// What stands before the script.
        args: Vec<String>,
    },
    /// Some other text.
    Text,
}

/// Tells a file's kind by its first [`HEAD`] bytes.
#[must_use]
pub fn sniff(head: &[u8]) -> Head {
    if head.contains(&0) {
        return Head::Binary;
    }
    let line = head.strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    match line.map(String::from_utf8_lossy).and_then(|line| shebang(line.trim())) {
        Some((interpreter, args)) => Head::Shebang { interpreter, args },
        None => Head::Text,
    }
}

/// Reads a `#!` line (without the `#!`) as the kernel does: a path and at most one argument. `env NAME` stands for a
/// name in PATH; more words after it are taken apart also without `-S`, since whole they could never be found.
fn shebang(line: &str) -> Option<(String, Vec<String>)> {
    let (path, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    if path.is_empty() {
        return None;
    }
    if !path.ends_with("/env") {
        return Some((path.to_owned(), Vec::from_iter((!rest.is_empty()).then(|| rest.to_owned()))));
    }
    let command = rest.strip_prefix("-S").or_else(|| rest.strip_prefix("--split-string=")).unwrap_or(rest);
    let mut words = split_words(command)?;
    match words.first() {
        None => None,
        // Options and assignments are for `env` itself.
        Some(first) if first.starts_with('-') || first.contains('=') => Some((path.to_owned(), words)),
        Some(_) => Some((words.remove(0), words)),
    }
}

/// A version as `node --version` prints it: `v22.18.0` → (22, 18).
#[must_use]
pub fn node_version(printed: &str) -> Option<(u32, u32)> {
    let mut parts = printed.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What a Node of this version needs to be told to run TypeScript; `None` if it cannot.
#[must_use]
pub fn typescript_args(version: (u32, u32)) -> Option<&'static [&'static str]> {
    match version {
        (22, 18..) | (23, 6..) | (24.., _) => Some(&[]),
        (22, 6..) | (23, _) => Some(&["--experimental-strip-types"]),
        _ => None,
    }
}

/// Whether the interpreter is Node, whose workers share ports by its own cluster protocol.
#[must_use]
pub fn is_node(interpreter: &str) -> bool {
    matches!(file_name(interpreter), "node" | "nodejs")
}

/// Whether this runs a script by Python, of any version.
#[must_use]
pub fn is_python_app(program: &Program) -> bool {
    match program {
        Program::Script { interpreter, .. } => file_name(interpreter).starts_with("python"),
        Program::Binary { .. } | Program::CommandLine { .. } => false,
    }
}

/// Programs written for Node that only start the app proper, as a child which knows nothing of a cluster.
const LAUNCHERS: &[&str] = &[
    "npm",
    "npx",
    "yarn",
    "yarnpkg",
    "pnpm",
    "pnpx",
    "corepack",
    "npm-run-all",
    "run-s",
    "run-p",
    "nodemon",
    "tsx",
    "ts-node-dev",
    "tsnd",
    "concurrently",
    "conc",
    "cross-env",
    "cross-env-shell",
    "env-cmd",
    "dotenv",
    "dotenvx",
    "nx",
    "turbo",
];

/// Whether this runs a script by Node that is the app itself: one that can take part in Node's own cluster protocol.
#[must_use]
pub fn is_node_app(program: &Program) -> bool {
    match program {
        Program::Script { script, interpreter, .. } => is_node(interpreter) && !is_launcher(script),
        Program::Binary { .. } | Program::CommandLine { .. } => false,
    }
}

/// By its name, which has an extension in the packages themselves only: an app of somebody's own may be `turbo.js`.
fn is_launcher(script: &Path) -> bool {
    let path = script.to_string_lossy();
    let name = if path.contains("/node_modules/") { file_stem(&path) } else { file_name(&path).to_owned() };
    LAUNCHERS.contains(&name.as_str())
}

/// Cluster or fork: as the owner said; else cluster if a number of processes was asked for.
#[must_use]
pub fn exec_mode(said: Option<ExecMode>, instances: Option<Instances>) -> ExecMode {
    match (said, instances) {
        (Some(mode), _) => mode,
        (None, Some(_)) => ExecMode::Cluster,
        (None, None) => ExecMode::Fork,
    }
}

/// Name of an app that runs a file: the file's, without its last extension.
#[must_use]
pub fn file_stem(script: &str) -> String {
    Path::new(script).file_stem().map_or_else(|| script.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Name of an app that is a command line: that of its program, which is its first word that is no `NAME=value`;
/// without directories, and without the extension if it is one of a script.
#[must_use]
pub fn command_name(line: &str) -> String {
    let words = split_words(line).unwrap_or_else(|| line.split_whitespace().map(str::to_owned).collect());
    let program = words.iter().find(|word| !word.contains('=')).or(words.first()).map_or(line, String::as_str);
    if by_extension(Path::new(program)).is_some() { file_stem(program) } else { file_name(program).to_owned() }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
