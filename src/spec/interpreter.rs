//! Chooses the interpreter of a script by its name and its first bytes, and the default name of an app. The caller
//! reads files and searches the PATH.

use std::path::Path;

use super::keys::read::Instances;
use super::rules::{ExecMode, Program};
use super::value::split_words;

/// Number of bytes of a file that [`sniff`] needs.
pub const HEAD: usize = 512;

/// The interpreter for a file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The first of these that is in PATH.
    OneOf(&'static [&'static str]),
    /// Bun if it is in PATH, else a Node that supports it (see [`typescript_args`]).
    TypeScript,
    /// Bun: no version of Node runs JSX.
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

/// The interpreter for this file's extension.
#[must_use]
pub fn by_extension(script: &Path) -> Option<Runner> {
    let extension = script.extension()?.to_str()?;
    BY_EXTENSION.iter().find(|(known, _)| *known == extension).map(|(_, runner)| *runner)
}

/// The kind of a file, by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Machine code or other data: executed directly.
    Binary,
    /// A script that names its interpreter.
    Shebang {
        /// A path, or a name to look up in PATH if it stood after `env`.
        interpreter: String,
        /// Arguments before the script.
        args: Vec<String>,
    },
    /// Some other text.
    Text,
}

/// Finds the kind of a file by its first [`HEAD`] bytes.
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

/// Parses a `#!` line (without the `#!`) like the kernel: a path and at most one argument. `env NAME` stands for a name
/// in PATH; further words are split also without `-S`, because no program has such a name.
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

/// The arguments with which a Node of this version runs TypeScript; `None` if it cannot.
#[must_use]
pub fn typescript_args(version: (u32, u32)) -> Option<&'static [&'static str]> {
    match version {
        (22, 18..) | (23, 6..) | (24.., _) => Some(&[]),
        (22, 6..) | (23, _) => Some(&["--experimental-strip-types"]),
        _ => None,
    }
}

/// True if the interpreter is Node, whose workers share ports by its own cluster protocol.
#[must_use]
pub fn is_node(interpreter: &str) -> bool {
    matches!(file_name(interpreter), "node" | "nodejs")
}

/// True if the program is a script that runs by Python, of any version.
#[must_use]
pub fn is_python_app(program: &Program) -> bool {
    match program {
        Program::Script { interpreter, .. } => file_name(interpreter).starts_with("python"),
        Program::Binary { .. } | Program::CommandLine { .. } => false,
    }
}

/// Programs written for Node that only start the app itself as a child, which does not use Node's cluster protocol.
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

/// True if the program is a script that runs by Node and is the app itself, so that it can use Node's own cluster
/// protocol.
#[must_use]
pub fn is_node_app(program: &Program) -> bool {
    match program {
        Program::Script { script, interpreter, .. } => is_node(interpreter) && !is_launcher(script),
        Program::Binary { .. } | Program::CommandLine { .. } => false,
    }
}

/// True for the name of a launcher. A name with an extension counts only inside `node_modules`: a user's own app may be
/// called `turbo.js`.
fn is_launcher(script: &Path) -> bool {
    let path = script.to_string_lossy();
    let name = if path.contains("/node_modules/") { file_stem(&path) } else { file_name(&path).to_owned() };
    LAUNCHERS.contains(&name.as_str())
}

/// The mode that is set; else cluster if a number of processes is set.
#[must_use]
pub fn exec_mode(mode: Option<ExecMode>, instances: Option<Instances>) -> ExecMode {
    match (mode, instances) {
        (Some(mode), _) => mode,
        (None, Some(_)) => ExecMode::Cluster,
        (None, None) => ExecMode::Fork,
    }
}

/// Default name of an app that runs a file: the file's name without its last extension.
#[must_use]
pub fn file_stem(script: &str) -> String {
    Path::new(script).file_stem().map_or_else(|| script.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Default name of an app that is a command line: the name of its program, which is the first word that is no
/// `NAME=value`; without directories, and without the extension of a script.
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
