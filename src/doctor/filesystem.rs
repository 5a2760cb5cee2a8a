//! What is on the disk: the home, the way to be started at boot, the programs apps run by.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Access, access, statvfs};

use super::finding::Finding;
use crate::os::process::{identity, program};
use crate::startup::systemd;

/// With less on the disk than this, logs and state will soon fail to be written.
const SPACE_WANTED: u64 = 100 << 20;
/// Permissions of others.
const OTHERS: u32 = 0o077;

const HOME: &str = "home";

/// Can the daemon live there?
pub fn home(home: &Path) -> Finding {
    let shown = home.display();
    let Ok(known) = fs::metadata(home) else { return unmade(home) };
    if known.uid() != identity::uid() {
        return Finding::missing(
            HOME,
            format!("{shown} belongs to user {}", known.uid()),
            "run pmr as that user, or set PMR_HOME to a folder of your own",
        );
    }
    if access(home, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let advice = format!("chmod u+rwx {shown}, or set PMR_HOME to another folder");
        return Finding::missing(HOME, format!("{shown} cannot be written to"), advice);
    }
    if known.mode() & OTHERS != 0 {
        return Finding::limited(
            HOME,
            format!("{shown} can be looked into by other users (mode {:o})", known.mode() & 0o777),
            format!("chmod 700 {shown}"),
        );
    }
    match space(home) {
        Some(free) if free < SPACE_WANTED => Finding::limited(
            HOME,
            format!("{shown} has {} MB left on its disk", free >> 20),
            "make room: without it logs are cut and changes are lost at a reboot; running apps are not affected",
        ),
        _ => Finding::good(HOME, format!("{shown}")),
    }
}

fn unmade(home: &Path) -> Finding {
    let above = home.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if above.is_dir() && access(above, Access::WRITE_OK).is_ok() {
        Finding::good(HOME, format!("{} will be made by the first start", home.display()))
    } else {
        Finding::missing(
            HOME,
            format!("{} is not there and cannot be made in {}", home.display(), above.display()),
            "set PMR_HOME to a folder of your own",
        )
    }
}

/// Bytes that are left there for us.
fn space(folder: &Path) -> Option<u64> {
    statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Can the system start the daemon at boot?
pub fn boot() -> Finding {
    const SUBJECT: &str = "start at boot";
    if systemd::runs_here() {
        Finding::good(SUBJECT, "systemd runs here: `pmr startup` installs a unit")
    } else {
        Finding::limited(
            SUBJECT,
            "systemd does not run here",
            "have what starts this system run `pmr resurrect`; in a container make `pmr start --no-daemon` its command",
        )
    }
}

/// What is there to run apps by. What is missing is missed only by who has such apps, so it is not told.
pub fn programs(path: &str) -> Option<Finding> {
    let known = [("node", "--version"), ("python3", "--version"), ("bun", "--version"), ("deno", "--version")];
    let cwd = Path::new("/");
    let found: Vec<String> = known
        .iter()
        .filter_map(|(name, flag)| Some((name, version(&program::in_path(name, path, cwd)?, flag)?)))
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    (!found.is_empty()).then(|| Finding::good("interpreters in PATH", found.join(", ")))
}

/// The last word of the first line that starts with a digit once a `v` is taken off.
fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.lines().next()?.split_whitespace().map(|word| word.trim_start_matches('v'));
    words.into_iter().find(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
}
