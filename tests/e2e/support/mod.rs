//! Helpers of all scenarios: a scratch home, commands with a time limit, waiting for conditions, reading the list.

pub mod counting;
#[path = "../../deadline/mod.rs"]
pub mod deadline;
pub mod eventually;
pub mod home;
pub mod http;
pub mod inventory;
pub mod listing;
pub mod pmr;
#[path = "../../ports/mod.rs"]
pub mod ports;
pub mod processes;

pub use eventually::eventually;
pub use home::Home;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies a program that is to be executed. Another process writes the copy: if this process had the file open for
/// writing, a child that another thread forks at that moment would inherit the descriptor, and executing the file would
/// fail with "text file busy".
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--remove-destination").args([from, to]).status();
    assert!(copied.expect("there is a cp").success(), "{} can be copied", from.display());
}

/// The path of a file of `examples/`.
pub fn example(name: &str) -> String {
    path("examples", name)
}

/// The path of a misbehaving app of `tests/e2e/apps/`.
pub fn app(name: &str) -> String {
    path("tests/e2e/apps", name)
}

fn path(folder: &str, name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), folder, name].iter().collect();
    assert!(path.exists(), "{} is where it is looked for", path.display());
    path.display().to_string()
}
