//! The control group of one run: a folder in each hierarchy that groups or limits its processes.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::place::memberships;
use crate::os::process::tree;

/// Rounds of signals to a group. A fork bomb may escape the first rounds, but not all of them.
const KILL_ROUNDS: usize = 50;

/// The group of a run. When it is dropped, its folders are removed if no process is left in it; the kernel does not
/// allow that before.
#[derive(Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folders. The processes of the group are read from the first.
    paths: Vec<PathBuf>,
    /// The end of its path in the kernel's lists of groups: `/pmr-0123abcd/run-5`.
    suffix: String,
}

/// Open files through which a new process enters a group. Needed only for a start.
#[derive(Debug)]
pub struct Entry {
    folder: Option<OwnedFd>,
    procs: Vec<File>,
}

impl Entry {
    /// Folder of the v2 group in which the process is made.
    #[must_use]
    pub fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(AsFd::as_fd)
    }

    /// `cgroup.procs` of the v1 groups that the process joins.
    #[must_use]
    pub fn procs(&self) -> Vec<BorrowedFd<'_>> {
        self.procs.iter().map(AsFd::as_fd).collect()
    }
}

/// The groups that a process is in: the text of `/proc/PID/cgroup`.
#[derive(Debug)]
pub struct Membership(String);

impl Membership {
    /// The groups of this process; empty if there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Membership {
        Membership(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default())
    }
}

impl Cgroup {
    /// The group with these folders, as [`Cgroup::paths`] returned them. Folders that are gone are left out. `None` if
    /// all are gone.
    #[must_use]
    pub fn reopen(paths: &[PathBuf]) -> Option<Cgroup> {
        let paths: Vec<PathBuf> = paths.iter().filter(|path| path.is_dir()).cloned().collect();
        let mut names = paths.first()?.iter().rev();
        let (run, home) = (names.next()?.to_str()?, names.next()?.to_str()?);
        let suffix = format!("/{home}/{run}");
        Some(Cgroup { paths, suffix })
    }

    /// Its folders, to be recorded for the next God.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Opens the files through which a new process enters the group.
    ///
    /// # Errors
    /// If a folder is gone or may not be entered.
    pub fn entry(&self) -> io::Result<Entry> {
        let mut entry = Entry { folder: None, procs: Vec::new() };
        for path in &self.paths {
            if is_unified(path) {
                entry.folder = Some(File::open(path)?.into());
            } else {
                entry.procs.push(File::options().write(true).open(path.join("cgroup.procs"))?);
            }
        }
        Ok(entry)
    }

    /// True if a process with this membership is in the group, or in a group inside it.
    #[must_use]
    pub fn holds(&self, membership: &Membership) -> bool {
        memberships(&membership.0).any(|(_, path)| {
            let behind = path.split_once(&self.suffix).map(|(_, behind)| behind);
            behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
        })
    }

    /// Pids of the living processes in the group, and in groups inside it.
    #[must_use]
    pub fn procs(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for folder in folders(&self.paths[0]) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
        pids
    }

    /// Sends SIGKILL to all processes in the group except this one, in one step where the kernel can do that (v2, since
    /// 5.14). A group that was killed in one step must not be used again: kernels also kill processes that are made in
    /// it later (observed with 6.18).
    pub fn kill(&self) {
        let own = rustix::process::getpid().as_raw_pid();
        let at_once = || fs::write(self.paths[0].join("cgroup.kill"), "1").is_ok();
        if self.procs().contains(&own) || !at_once() {
            self.kill_each();
        }
    }

    /// Sends SIGKILL to each process in the group except this one. The group can be used again.
    pub fn kill_each(&self) {
        let own = rustix::process::getpid().as_raw_pid();
        let mut killed = Vec::new();
        for _ in 0..KILL_ROUNDS {
            let fresh: Vec<i32> = self.procs().into_iter().filter(|pid| *pid != own && !killed.contains(pid)).collect();
            if fresh.is_empty() {
                return;
            }
            fresh.iter().for_each(|pid| drop(tree::signal(*pid, libc::SIGKILL)));
            killed.extend(fresh);
        }
    }

    /// How many of its processes the kernel has killed because memory was short.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let count = |path: &PathBuf| {
            let text = self::text(path, "memory.events").or_else(|| self::text(path, "memory.oom_control"))?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse::<u64>().ok()
        };
        self.paths.iter().filter_map(count).max().unwrap_or(0)
    }

    /// Its limit of memory, in bytes, if one is set.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        let limit = |path: &PathBuf| {
            let text = self::text(path, "memory.max").or_else(|| self::text(path, "memory.limit_in_bytes"))?;
            text.trim().parse::<u64>().ok()
        };
        // Without a limit, the file of v1 holds the largest number of pages.
        self.paths.iter().find_map(limit).filter(|bytes| *bytes < 1 << 60)
    }

    /// Removes its folders if no process is in them. True if they are gone.
    pub fn remove(&self) -> bool {
        self.paths.iter().all(|path| {
            folders(path).iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
            !path.exists()
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

fn text(folder: &Path, file: &str) -> Option<String> {
    fs::read_to_string(folder.join(file)).ok()
}

/// True for a folder of the unified hierarchy (v2): folders of v1 have no file `cgroup.controllers`.
pub(super) fn is_unified(folder: &Path) -> bool {
    folder.join("cgroup.controllers").exists()
}

/// The folder and all folders inside it, outer ones before inner ones.
fn folders(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while let Some(folder) = found.get(at) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let inner: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(inner);
        at += 1;
    }
    found
}
