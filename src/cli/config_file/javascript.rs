//! Config files in JavaScript, evaluated by the user's own node: CommonJS or ESM; an object, a function (its argument
//! is the NAME of `--env`), or a promise of one.

use std::fs::File;
use std::io::{PipeReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value;

use crate::cli::resolve::InputError;

const EVALUATE: &str = include_str!("evaluate.js");

/// Result of the evaluation of a file.
struct Outcome {
    status: ExitStatus,
    /// The exported value as JSON, from the pipe.
    json: String,
    /// Standard output and standard error of node.
    printed: String,
}

/// Evaluates a file and returns its exported value.
pub(super) fn evaluate(path: &Path, env_name: Option<&str>) -> Result<Value, InputError> {
    let cannot = |error: std::io::Error| InputError::new(format!("{} cannot be evaluated: {error}", path.display()));
    let full = std::path::absolute(path).map_err(cannot)?;
    let run = |args: &[&str]| match run(args, &full, env_name.unwrap_or_default()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_node(path)),
        result => result.map_err(cannot),
    };
    let mut outcome = run(&[])?;
    if !outcome.status.success() && is_module_syntax(&outcome.printed) {
        // A .js file with module syntax, without `"type": "module"`: later versions of Node detect that by themselves.
        let again = run(&["--experimental-detect-module"])?;
        if again.status.success() {
            outcome = again;
        }
    }
    if !outcome.status.success() {
        return Err(failed(path, &outcome));
    }
    match serde_json::from_str(&outcome.json) {
        Ok(Value::Null) | Err(_) => Err(InputError::new(format!("{} exports nothing", path.display()))
            .hint("write `module.exports = { apps: [ … ] }` or `export default { apps: [ … ] }`")),
        Ok(value) => Ok(value),
    }
}

fn run(args: &[&str], path: &Path, env_name: &str) -> std::io::Result<Outcome> {
    let (reader, writer) = std::io::pipe()?;
    // The child inherits this end. No other process is started meanwhile: the command line has one thread.
    fcntl_setfd(&writer, FdFlags::empty())?;
    let mut printed = tempfile::tempfile()?;
    let mut child = Command::new("node")
        .args(args)
        .args(["--input-type=commonjs", "--eval", EVALUATE, "--", &writer.as_raw_fd().to_string()])
        .arg(path)
        .arg(env_name)
        .stdin(Stdio::null())
        .stdout(printed.try_clone()?)
        .stderr(printed.try_clone()?)
        .spawn()?;
    drop(writer);
    let json = read_pipe(reader);
    let status = child.wait()?;
    Ok(Outcome { status, json: json?, printed: read_back(&mut printed)? })
}

fn read_pipe(mut reader: PipeReader) -> std::io::Result<String> {
    let mut json = String::new();
    reader.read_to_string(&mut json)?;
    Ok(json)
}

fn read_back(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_module_syntax(printed: &str) -> bool {
    printed.contains("Unexpected token 'export'") || printed.contains("Cannot use import statement outside a module")
}

fn no_node(path: &Path) -> InputError {
    InputError::new(format!("{} is JavaScript, and there is no node in PATH to evaluate it", path.display()))
        .hint("install Node.js, or write the file as JSON, YAML or TOML, which need no other program")
}

/// The output of node, without its internal stack frames.
fn failed(path: &Path, outcome: &Outcome) -> InputError {
    let is_relevant = |line: &&str| {
        let frame = line.trim_start();
        !(frame.starts_with("at ") && (frame.contains("node:") || frame.contains("[eval]"))
            || frame.starts_with("Node.js v"))
    };
    let printed: Vec<&str> = outcome.printed.trim_end().lines().filter(is_relevant).take(30).collect();
    let printed = printed.join("\n  ");
    let error = InputError::new(format!("{} cannot be evaluated:\n  {}", path.display(), printed.trim_end()));
    match is_module_syntax(&outcome.printed) {
        true => error.hint("the file is a module: give it the ending .config.mjs"),
        false => error,
    }
}
