//! Where programs are, and making those that are compiled. Nothing is installed here: `.ci/programs` does that.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::catalog::Program;

/// What must be made of the example before it can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Nothing,
    /// Nothing, but `python3` must be there.
    Python3,
    /// A package of the folder, and the program's name.
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

/// What is made lies here.
fn made() -> PathBuf {
    root().join("target/programs")
}

/// The folder a program runs in.
pub fn folder(program: &Program) -> PathBuf {
    root().join("examples/programs").join(program.folder)
}

/// Puts paths in place of words in braces: `{made}` and `{venv}` (programs of Python packages) in the target folder,
/// `{packages}` of the folder's npm packages, `{x64}` as they name this kind of machine, the system's `{python3}`.
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

/// A program that is not installed, or cannot be reached.
#[derive(Clone, Debug)]
pub struct Missing(pub String);

/// Makes the program, once, if it has to be made. `Err` if something it takes is not installed.
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

/// Runs what makes a program. It must succeed, if it is installed.
fn run(tool: &str, args: &[&str], folder: &Path) -> Result<(), Missing> {
    installed(tool, folder)?;
    let tool = if tool.contains('/') { folder.join(tool).display().to_string() } else { tool.to_owned() };
    let mut command = Command::new(&tool);
    command.args(args).current_dir(folder).env("CGO_ENABLED", "0").env("NEXT_TELEMETRY_DISABLED", "1");
    // Variables that cargo sets for tests are not for another crate.
    for name in ["CARGO_MANIFEST_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    let output = command.output().expect("it was found");
    assert!(output.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Whether there is such a program: by its path from the folder, or in `PATH`.
fn installed(program: &str, folder: &Path) -> Result<(), Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = || env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let is_here = folder.join(program).is_file() || (!program.contains('/') && in_path());
    if is_here { Ok(()) } else { Err(Missing(program.to_owned())) }
}

/// Whether a user without privileges can read what lies in the folder of the program and in the target folder.
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
