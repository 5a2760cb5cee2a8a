//! Packages from the npm registry: frameworks for the examples, and other versions of Node. They are installed once.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Makes sure that the examples have their frameworks; returns their folder.
pub fn examples() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| install("examples/node")).clone()
}

/// The interpreter of a Node version: the installed one for `None`.
pub fn node(version: Option<u32>) -> String {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    let Some(version) = version else { return "node".to_owned() };
    let packages = READY.get_or_init(|| install("tests/cluster/runtimes")).join("node_modules");
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let path = packages.join(format!("node{version}-{machine}/bin/node"));
    assert!(path.exists(), "npm has put a Node at {}", path.display());
    path.display().to_string()
}

/// Runs `npm ci`, unless it has run for this version of the lock file.
fn install(folder: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut hasher = DefaultHasher::new();
    fs::read(folder.join("package-lock.json")).expect("the lock file is there").hash(&mut hasher);
    let (stamp, wanted) = (folder.join("node_modules/.installed"), hasher.finish().to_string());
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    let mut npm = Command::new("npm");
    let output = npm.args(["ci", "--prefer-offline"]).current_dir(&folder).output().expect("npm is installed");
    assert!(output.status.success(), "npm ci in {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    fs::write(stamp, wanted).expect("npm has made the folder");
    folder
}
