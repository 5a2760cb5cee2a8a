//! What the stories need: a scratch home, commands with a time limit, waiting for conditions, reading the list.

pub mod counting;
pub mod eventually;
pub mod home;
pub mod http;
pub mod listing;
pub mod order;
pub mod pmr;
pub mod processes;

pub use eventually::eventually;
pub use home::Home;

use std::path::PathBuf;

/// A file of `examples/`.
pub fn example(name: &str) -> String {
    path("examples", name)
}

/// A misbehaving app of `tests/e2e/apps/`.
pub fn app(name: &str) -> String {
    path("tests/e2e/apps", name)
}

fn path(folder: &str, name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), folder, name].iter().collect();
    assert!(path.exists(), "{} is where it is looked for", path.display());
    path.display().to_string()
}
