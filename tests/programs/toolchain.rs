//! Finds programs, and builds those that are compiled. Nothing is installed here: `.ci/programs` does that.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::catalog::Program;

/// How the example is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Nothing,
    /// Nothing to build, but `python3` must be installed.
    Python3,
    /// `go build` of a package in the folder, to a program of this name.
    Go {
        package: &'static str,
        to: &'static str,
    },
    Rustc,
    Cargo,
    Javac,
    /// `next build`.
    Next,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of compiled programs.
fn made() -> PathBuf {
    root().join("target/programs")
}

/// The folder in which a program runs.
pub fn folder(program: &Program) -> PathBuf {
    root().join("examples/programs").join(program.folder)
}

/// Replaces words in braces: `{made}` and `{venv}` (programs of Python packages) are in the target folder, `{packages}`
/// is the folder's npm packages, `{x64}` the npm name of this architecture, and `{python3}` the Python of the system.
pub fn place(text: &str, program: &Program, port: u16) -> String {
    let python3 = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let arm = cfg!(target_arch = "aarch64");
    let x64 = match (text.contains("@oven"), arm) {
        (_, false) => "x64",
        (true, true) => "aarch64",
        (false, true) => "arm64",
    };
    text.replace("{port}", &port.to_string())
        .replace("{python3}", python3)
        .replace("{made}", &made().display().to_string())
        .replace("{venv}", &made().join("python/bin").display().to_string())
        .replace("{packages}", &folder(program).join("node_modules").display().to_string())
        .replace("{x64}", x64)
}

/// A program that is not installed, or that a user cannot read.
#[derive(Clone, Debug)]
pub struct Missing(pub String);

/// Builds the program once, if it has to be built. `Err` if something that the build needs is not installed.
pub fn prepare(program: &'static Program) -> Result<(), Missing> {
    static READY: Mutex<BTreeMap<&str, Result<(), Missing>>> = Mutex::new(BTreeMap::new());
    let mut ready = READY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    ready.entry(program.name).or_insert_with(|| make(program)).clone()
}

fn make(program: &Program) -> Result<(), Missing> {
    let from = folder(program);
    let to = made();
    std::fs::create_dir_all(&to).expect("the target folder can be written");
    let to = |name: &str| to.join(name).display().to_string();
    match program.make {
        Make::Nothing => {}
        Make::Python3 => installed("python3", &from)?,
        Make::Go { package, to: name } => run("go", &["build", "-o", &to(name), package], &from)?,
        Make::Rustc => run("rustc", &["--edition=2024", "-O", "-o", &to("plain"), "plain.rs"], &from)?,
        Make::Cargo => run("cargo", &["build", "--release", "--target-dir", &to("axum")], &from.join("axum"))?,
        Make::Javac => run("javac", &["-d", &to("java"), "Server.java"], &from)?,
        Make::Next => run("node_modules/.bin/next", &["build"], &from)?,
    }
    installed(&place(program.program, program, 0), &from)
}

/// Runs a build tool. It must succeed, if it is installed.
fn run(tool: &str, args: &[&str], folder: &Path) -> Result<(), Missing> {
    installed(tool, folder)?;
    let tool = if tool.contains('/') { folder.join(tool).display().to_string() } else { tool.to_owned() };
    let mut command = Command::new(&tool);
    command.args(args).current_dir(folder).env("CGO_ENABLED", "0").env("NEXT_TELEMETRY_DISABLED", "1");
    // Variables that cargo sets for tests must not affect the build of another crate.
    for name in ["CARGO_MANIFEST_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    let output = command.output().expect("it was found");
    assert!(output.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Checks that a program exists: as a path from the folder, or in `PATH`.
fn installed(program: &str, folder: &Path) -> Result<(), Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = || env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let is_here = folder.join(program).is_file() || (!program.contains('/') && in_path());
    if is_here { Ok(()) } else { Err(Missing(program.to_owned())) }
}

/// Checks that an unprivileged user can read the folder of the program and the target folder.
pub fn reachable(user: u32, program: &Program) -> Result<(), Missing> {
    let place = place(program.program, program, 0);
    let script = r#"test -r . && { test -r "$0" || command -v "$0" >/dev/null; }"#;
    let mut test = Command::new("setpriv");
    test.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "sh", "-c", script, &place]);
    match test.current_dir(folder(program)).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Missing(format!("{place}, readable by others,"))),
        Err(_) => Err(Missing("setpriv".to_owned())),
    }
}
