//! Finds the program for `script`: a file, a program in PATH, or a command line, and its interpreter.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::caller::Caller;
use super::input_error::{InputError, reason};
use super::path::absolute;
use crate::os::process::program::{in_path, is_executable};
use crate::spec::interpreter::{self, Head, Runner};
use crate::spec::keys::Draft;
use crate::spec::{AppSpec, Program};

/// What `script` refers to.
#[derive(Debug)]
pub(super) enum Found {
    /// A file, as a path.
    File(PathBuf),
    /// A program in PATH.
    InPath(PathBuf),
    /// Neither, but it has spaces, so it is a command line.
    CommandLine(String),
}

impl Found {
    /// The file, if `script` is a path.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Found::File(path) => Some(path),
            Found::InPath(_) | Found::CommandLine(_) => None,
        }
    }

    pub(super) fn default_name(&self) -> String {
        match self {
            Found::File(path) => interpreter::file_stem(&path.to_string_lossy()),
            Found::InPath(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Found::CommandLine(line) => interpreter::command_name(line),
        }
    }
}

/// Finds the script: as a file in the app's directory or in the caller's, then as a program in PATH, then as a command
/// line.
pub(super) fn find(draft: &Draft, cwd: &Path, caller: &Caller) -> Result<Found, InputError> {
    let Some(script) = &draft.script else { return Err(InputError::new("there is no script to start")) };
    let paths = [cwd, caller.cwd.as_path()].map(|base| absolute(script, base, caller.home()));
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return if path.is_file() { Ok(Found::File(path.clone())) } else { Err(not_a_file(path)) };
    }
    if let Some(path) = in_path(script, search_path(draft, caller), cwd) {
        return Ok(Found::InPath(path));
    }
    if script.trim().contains(char::is_whitespace) && no_interpreter(draft) {
        return Ok(Found::CommandLine(script.trim().to_owned()));
    }
    Err(missing(script, &paths[0], cwd))
}

fn no_interpreter(draft: &Draft) -> bool {
    draft.interpreter.as_ref().is_none_or(|interpreter| interpreter == "none")
}

fn missing(script: &str, path: &Path, cwd: &Path) -> InputError {
    if script.contains('/') {
        return InputError::new(format!("there is no script {}", path.display()));
    }
    let near = near_miss(script, cwd).map(|near| format!("did you mean {near}?"));
    let hint = near.unwrap_or_else(|| "give the path of a script, or a command line in quotes".to_owned());
    InputError::new(format!("`{script}` is neither a file in {} nor a program in PATH", cwd.display())).hint(hint)
}

/// A file in the directory with a name similar to `script`.
fn near_miss(script: &str, cwd: &Path) -> Option<String> {
    let names: Vec<String> = std::fs::read_dir(cwd)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| interpreter::by_extension(Path::new(name)).is_some())
        .take(1000)
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    crate::spec::target::similar(script, &names).into_iter().next()
}

fn not_a_file(path: &Path) -> InputError {
    let error = InputError::new(format!("{} is not a file", path.display()));
    if path.is_dir() { error.hint("give the script in it, for instance index.js") } else { error }
}

/// The PATH of the app itself.
fn search_path<'a>(draft: &'a Draft, caller: &'a Caller) -> &'a str {
    draft
        .env
        .get("PATH")
        .or_else(|| caller.env.get("PATH"))
        .map_or(crate::os::process::program::DEFAULT_PATH, String::as_str)
}

/// Decides how the script is executed.
pub(super) fn program(draft: &Draft, found: &Found, cwd: &Path, caller: &Caller) -> Result<Program, InputError> {
    let lookup = Lookup { cwd, caller, path: search_path(draft, caller) };
    let program = match found {
        Found::CommandLine(line) => Program::CommandLine { line: line.clone(), shell: lookup.shell() },
        Found::File(file) | Found::InPath(file) => match draft.interpreter.as_deref() {
            Some("none") => lookup.binary(file)?,
            Some(interpreter) => lookup.script(file, lookup.given(interpreter)?, Vec::new()),
            None => lookup.without_interpreter(file)?,
        },
    };
    add_interpreter_args(program, draft.interpreter_args.as_deref().unwrap_or_default())
}

fn add_interpreter_args(mut program: Program, more: &[String]) -> Result<Program, InputError> {
    match &mut program {
        _ if more.is_empty() => {}
        Program::Script { interpreter_args, .. } => interpreter_args.extend_from_slice(more),
        Program::Binary { .. } | Program::CommandLine { .. } => {
            return Err(InputError::new("arguments for an interpreter are given, but the app runs without one")
                .hint("arguments of the app itself stand after `--`, or in `args`"));
        }
    }
    Ok(program)
}

/// Appends arguments to a command line: as arguments of the shell they would not reach the command.
pub(super) fn append_args(spec: &mut AppSpec) {
    if let Program::CommandLine { line, .. } = &mut spec.program {
        for arg in spec.args.drain(..) {
            line.push_str(&format!(" '{}'", arg.replace('\'', r"'\''")));
        }
    }
}

struct Lookup<'a> {
    cwd: &'a Path,
    caller: &'a Caller,
    path: &'a str,
}

impl Lookup<'_> {
    fn has(&self, name: &str) -> bool {
        in_path(name, self.path, self.cwd).is_some()
    }

    fn shell(&self) -> PathBuf {
        let shell = ["bash", "sh"].into_iter().find_map(|shell| in_path(shell, self.path, self.cwd));
        shell.unwrap_or_else(|| PathBuf::from("/bin/sh"))
    }

    fn script(&self, file: &Path, interpreter: String, interpreter_args: Vec<String>) -> Program {
        Program::Script { script: file.to_owned(), interpreter, interpreter_args }
    }

    fn binary(&self, file: &Path) -> Result<Program, InputError> {
        if is_executable(file) {
            return Ok(Program::Binary { path: file.to_owned() });
        }
        Err(InputError::new(format!("{} is not executable", file.display()))
            .hint(format!("chmod +x {}", file.display())))
    }

    /// The interpreter that the user named: a path, or a name in PATH.
    fn given(&self, interpreter: &str) -> Result<String, InputError> {
        if !interpreter.contains('/') && !interpreter.starts_with('~') {
            return if self.has(interpreter) {
                Ok(interpreter.to_owned())
            } else {
                Err(no_interpreter_called(interpreter))
            };
        }
        let path = absolute(interpreter, self.cwd, self.caller.home());
        if is_executable(&path) {
            return Ok(path.to_string_lossy().into_owned());
        }
        let what = if path.exists() { "is not executable" } else { "does not exist" };
        Err(InputError::new(format!("the interpreter {} {what}", path.display())))
    }

    /// A file without a named interpreter: its extension decides, then its first bytes.
    fn without_interpreter(&self, file: &Path) -> Result<Program, InputError> {
        match interpreter::by_extension(file) {
            Some(Runner::OneOf(names)) => match names.iter().find(|name| self.has(name)) {
                Some(name) => Ok(self.script(file, (*name).to_owned(), Vec::new())),
                None => Err(runner_missing(file, names)),
            },
            Some(Runner::TypeScript) => self.typescript(file),
            Some(Runner::TypeScriptJsx) if self.has("bun") => Ok(self.script(file, "bun".to_owned(), Vec::new())),
            Some(Runner::TypeScriptJsx) => Err(runner_missing(file, &["bun"])),
            None => self.by_content(file),
        }
    }

    fn by_content(&self, file: &Path) -> Result<Program, InputError> {
        let head = read_head(file)
            .map_err(|error| InputError::new(format!("{} cannot be read: {}", file.display(), reason(&error))))?;
        match interpreter::sniff(&head) {
            Head::Binary => self.binary(file),
            Head::Shebang { interpreter, args } => Ok(self.script(file, self.given(&interpreter)?, args)),
            Head::Text if file.extension().is_none() => {
                if self.has("node") {
                    return Ok(self.script(file, "node".to_owned(), Vec::new()));
                }
                Err(runner_missing(file, &["node"]))
            }
            Head::Text => Err(InputError::new(format!("it is not known what runs {}", file.display()))
                .hint("say it by --interpreter, or in a first line such as `#!/usr/bin/env lua`")),
        }
    }

    fn typescript(&self, file: &Path) -> Result<Program, InputError> {
        if self.has("bun") {
            return Ok(self.script(file, "bun".to_owned(), Vec::new()));
        }
        let Some(node) = in_path("node", self.path, self.cwd) else {
            return Err(runner_missing(file, &["bun", "node"]));
        };
        let printed = node_version(&node);
        match interpreter::node_version(&printed).and_then(interpreter::typescript_args) {
            Some(args) => Ok(self.script(file, "node".to_owned(), args.iter().map(ToString::to_string).collect())),
            None => Err(InputError::new(format!("Node {} does not run {}", printed.trim(), file.display()))
                .hint("install bun or Node 22.18 and later, or name what runs it: --interpreter tsx")),
        }
    }
}

fn node_version(node: &Path) -> String {
    let output = std::process::Command::new(node).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn read_head(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(interpreter::HEAD);
    std::fs::File::open(file)?.take(interpreter::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn no_interpreter_called(name: &str) -> InputError {
    let error = InputError::new(format!("the interpreter `{name}` is not in PATH"));
    match name.split_once('@') {
        Some(("node", _)) => {
            error.hint("give the path of the node to use: --interpreter ~/.nvm/versions/node/…/bin/node")
        }
        _ => error.hint("install it, or give its path by --interpreter"),
    }
}

fn runner_missing(file: &Path, names: &[&str]) -> InputError {
    let names = names.join(" or ");
    InputError::new(format!("{} needs {names}, which is not in PATH", file.display()))
        .hint(format!("install {names}, or name another interpreter by --interpreter"))
}
