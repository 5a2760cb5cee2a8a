//! Control groups: all processes of a run in one group, so that none can hide, and limits that the kernel keeps.
//!
//! Machines differ: one unified hierarchy (v2), one for each controller (v1), both side by side, or none; and without
//! privileges we may make groups only where somebody has let us. Groups are made below the one we are in ourselves:
//! `pmr-<home>/run-<n>`. Grouping prefers v2, where a child is born in its group; joining a v1 group costs a wait for
//! all processors, so a v1 controller is used only for a limit, and for grouping where there is no v2.

mod group;
mod place;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use group::{Cgroup, Entry, Membership};
use place::Place;

/// v1 controllers that can serve to group, the best first.
const GROUPING: [&str; 3] = ["pids", "freezer", "memory"];
/// Where we go ourselves on v2 if our group is to have groups with controllers: then it may hold no processes.
const OWN: &str = "daemon";
/// The period of the processor limit, in microseconds; the kernel's default.
const PERIOD: u64 = 100_000;
/// The smallest quota the kernel takes, in microseconds.
const MIN_QUOTA: u64 = 1_000;

/// What the processes of a run may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, swap included where the kernel counts it.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of one processor.
    pub cpu: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// Why there is no group with the limits asked for.
#[derive(Debug)]
pub struct Refused {
    /// The controller that is missing or refused.
    controller: &'static str,
    error: Option<io::Error>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.controller {
            "cpu" => "processor time",
            "pids" => "the number of processes",
            _ => "memory",
        };
        write!(f, "its limit on {what} cannot be set: ")?;
        match &self.error {
            None => write!(f, "there is no `{}` cgroup controller that pmr may use here", self.controller),
            Some(error) => write!(f, "the `{}` cgroup controller: {error}", self.controller),
        }
    }
}

impl std::error::Error for Refused {}

/// The kind of control groups that something is done by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// The unified one.
    V2,
    /// One for each controller.
    V1,
    /// There is none that we may use.
    None,
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hierarchy::V2 => "v2",
            Hierarchy::V1 => "v1",
            Hierarchy::None => "none",
        })
    }
}

/// What can be done with control groups here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Holding the processes of a run together.
    pub grouping: Hierarchy,
    /// Limiting their memory.
    pub memory: Hierarchy,
    /// Limiting their processor time.
    pub cpu: Hierarchy,
    /// Limiting their number.
    pub pids: Hierarchy,
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allowance { grouping, memory, cpu, pids } = self;
        write!(f, "grouping: {grouping}; limits on memory: {memory}, on processor time: {cpu}, on processes: {pids}")
    }
}

/// What would be allowed to a daemon of this home that runs where we do. Changes nothing.
#[must_use]
pub fn allowance(home: &Path) -> Allowance {
    let found = Cgroups::find(home, |_, _| ());
    let allowance = found.allowance();
    // It is not ours to clear away.
    std::mem::forget(found);
    allowance
}

/// What this machine allows us.
#[derive(Debug, Default)]
pub struct Cgroups {
    unified: Option<Tree>,
    separate: Vec<(Vec<String>, Tree)>,
}

/// Our part of one hierarchy.
#[derive(Debug)]
struct Tree {
    /// The group we were in.
    own: PathBuf,
    /// Below it, what holds the groups of our runs.
    base: PathBuf,
}

impl Cgroups {
    /// Finds out what is allowed to the daemon of this home, and is that daemon. Nothing is no error.
    #[must_use]
    pub fn discover(home: &Path) -> Cgroups {
        Cgroups::find(home, Tree::leave_run)
    }

    fn find(home: &Path, enter: impl Fn(&Tree, &Path)) -> Cgroups {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let name = format!("pmr-{:08x}", fnv(home.as_os_str().as_encoded_bytes()));
        let mut cgroups = Cgroups::default();
        for Place { unified, controllers, folder } in place::places(&read("mountinfo"), &read("cgroup")) {
            let Some(tree) = Tree::new(&folder, &name) else { continue };
            enter(&tree, &folder);
            if unified {
                cgroups.unified = Some(tree);
            } else if controllers.iter().any(|name| name == "cpu" || GROUPING.contains(&name.as_str())) {
                cgroups.separate.push((controllers, tree));
            }
        }
        cgroups
    }

    /// What there is.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        let kind = |controller| match (self.delegated(controller), self.separate(controller)) {
            (true, _) => Hierarchy::V2,
            (false, Some(_)) => Hierarchy::V1,
            (false, None) => Hierarchy::None,
        };
        let grouping = match (&self.unified, self.grouping()) {
            (Some(_), _) => Hierarchy::V2,
            (None, Some(_)) => Hierarchy::V1,
            (None, None) => Hierarchy::None,
        };
        Allowance { grouping, memory: kind("memory"), cpu: kind("cpu"), pids: kind("pids") }
    }

    /// Makes the group of a run. `None` if there are no groups here, and none is needed.
    ///
    /// # Errors
    /// Only if a limit is asked for that cannot be had.
    pub fn create(&self, run: u64, limits: &Limits) -> Result<Option<Cgroup>, Refused> {
        self.make(&self.free_name(run), limits)
    }

    /// Makes a group beside a run's, with the limits of that, for what is done about the run and is none of it. Only where
    /// it costs little: `None` without v2, and without the limits that v2 has not.
    #[must_use]
    pub fn create_beside(&self, run: u64, limits: &Limits) -> Option<Cgroup> {
        self.unified.as_ref()?;
        let limits = Limits {
            memory: limits.memory.filter(|_| self.delegated("memory")),
            cpu: limits.cpu.filter(|_| self.delegated("cpu")),
            pids: limits.pids.filter(|_| self.delegated("pids")),
        };
        self.make(&format!("run-{run}.check"), &limits).ok().flatten()
    }

    fn make(&self, name: &str, limits: &Limits) -> Result<Option<Cgroup>, Refused> {
        let mut paths: Vec<PathBuf> = self.grouping().and_then(|tree| tree.make(name).ok()).into_iter().collect();
        let made = [
            limits.memory.map(|bytes| self.limit("memory", name, &mut paths, |path| limit_memory(path, bytes))),
            limits.cpu.map(|thousandths| self.limit("cpu", name, &mut paths, |path| limit_cpu(path, thousandths))),
            limits.pids.map(|count| {
                self.limit("pids", name, &mut paths, |path| fs::write(path.join("pids.max"), count.to_string()))
            }),
        ];
        // What was made for a run that is refused goes again when this is dropped.
        let group = Cgroup::reopen(&paths);
        made.into_iter().flatten().collect::<Result<(), Refused>>()?;
        Ok(group)
    }

    /// Groups of runs that are there now, made by us or by a daemon of this home before us.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Cgroup> {
        let mut names: Vec<_> = self.trees().flat_map(Tree::runs).collect();
        names.sort();
        names.dedup();
        let paths = |name: &std::ffi::OsString| self.trees().map(|tree| tree.base.join(name)).collect::<Vec<_>>();
        names.iter().filter_map(|name| Cgroup::reopen(&paths(name))).collect()
    }

    /// All trees, the one for grouping first.
    fn trees(&self) -> impl Iterator<Item = &Tree> {
        let first = self.grouping();
        let others = self.separate.iter().map(|(_, tree)| tree);
        first.into_iter().chain(others.filter(move |tree| first.is_none_or(|first| first.base != tree.base)))
    }

    fn grouping(&self) -> Option<&Tree> {
        self.unified.as_ref().or_else(|| GROUPING.iter().find_map(|controller| self.separate(controller)))
    }

    fn separate(&self, controller: &str) -> Option<&Tree> {
        let has = |controllers: &[String]| controllers.iter().any(|name| name == controller);
        self.separate.iter().find(|(controllers, _)| has(controllers)).map(|(_, tree)| tree)
    }

    /// True if v2 has this controller, and lets us have it.
    fn delegated(&self, controller: &str) -> bool {
        self.unified.as_ref().is_some_and(|tree| tree.has(controller))
    }

    /// A run number may come again in another life of the daemon while processes of the first are still there.
    fn free_name(&self, run: u64) -> String {
        let taken = |name: &str| self.trees().any(|tree| tree.base.join(name).exists());
        let first = format!("run-{run}");
        if taken(&first) {
            let again = Cgroup::reopen(&self.trees().map(|tree| tree.base.join(&first)).collect::<Vec<_>>());
            if again.is_some_and(|group| !group.remove()) {
                return (2..).map(|number| format!("{first}.{number}")).find(|name| !taken(name)).unwrap_or(first);
            }
        }
        first
    }

    /// Sets a limit in the hierarchy that has its controller, in a folder that is added to the run's if it is new.
    fn limit(
        &self,
        controller: &'static str,
        name: &str,
        paths: &mut Vec<PathBuf>,
        set: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<(), Refused> {
        let refused = |error| Refused { controller, error: Some(error) };
        let tree = match (&self.unified, self.separate(controller)) {
            (Some(tree), _) if tree.has(controller) => {
                tree.enable(controller).map_err(refused)?;
                tree
            }
            (_, Some(tree)) => tree,
            (_, None) => return Err(Refused { controller, error: None }),
        };
        let path = tree.make(name).map_err(refused)?;
        if !paths.contains(&path) {
            paths.push(path.clone());
        }
        set(&path).map_err(refused)
    }
}

impl Drop for Cgroups {
    /// Goes only if no run has a group any more.
    fn drop(&mut self) {
        self.trees().for_each(|tree| drop(fs::remove_dir(&tree.base)));
    }
}

impl Tree {
    /// `None` if we may make no groups there.
    fn new(folder: &Path, name: &str) -> Option<Tree> {
        // A daemon that took over, or was started by one of its own apps, is inside already.
        let base = folder.ancestors().find(|part| part.file_name().is_some_and(|last| last == name));
        let own = base.and_then(Path::parent).unwrap_or(folder).to_owned();
        // Making a folder may be allowed where moving processes is not.
        let ours = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        (ours(&own) && ours(&own.join("cgroup.procs"))).then(|| Tree { base: own.join(name), own })
    }

    /// A daemon that was started by one of its own apps is in that app's group: it leaves it, or it would be counted
    /// and killed with the app.
    fn leave_run(&self, folder: &Path) {
        let Ok(inner) = folder.strip_prefix(&self.base) else { return };
        if !inner.starts_with(OWN) {
            let to_own = fs::write(self.own.join("cgroup.procs"), "0");
            // With controllers handed down, only the innermost groups may hold processes.
            let _ = to_own.or_else(|_| fs::write(self.make(OWN)?.join("cgroup.procs"), "0"));
        }
    }

    fn make(&self, name: &str) -> io::Result<PathBuf> {
        make(&self.base)?;
        let path = self.base.join(name);
        make(&path).map(|()| path)
    }

    fn runs(&self) -> Vec<std::ffi::OsString> {
        let entries = fs::read_dir(&self.base).into_iter().flatten().flatten();
        let names =
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.file_name());
        names.filter(|name| name.as_encoded_bytes().starts_with(b"run-")).collect()
    }

    fn has(&self, controller: &str) -> bool {
        has_word(&self.own.join("cgroup.controllers"), controller)
    }

    /// Gives the controller to our groups.
    fn enable(&self, controller: &str) -> io::Result<()> {
        let enable = |folder: &Path| {
            let file = folder.join("cgroup.subtree_control");
            if has_word(&file, controller) { Ok(()) } else { fs::write(file, format!("+{controller}")) }
        };
        make(&self.base)?;
        match enable(&self.own) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && self.step_aside()? => enable(&self.own)?,
            result => result?,
        }
        enable(&self.base)
    }

    /// A v2 group with processes of its own cannot give controllers to groups within. Where they are all ours, they
    /// move into one of those. False if others are there, whom we leave alone.
    fn step_aside(&self) -> io::Result<bool> {
        let text = fs::read_to_string(self.own.join("cgroup.procs"))?;
        let us = fs::read_link("/proc/self/exe")?;
        if !text.lines().all(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == us)) {
            return Ok(false);
        }
        let aside = self.make(OWN)?.join("cgroup.procs");
        text.lines().try_for_each(|pid| fs::write(&aside, pid))?;
        Ok(true)
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn has_word(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|known| known == word))
}

fn limit_memory(folder: &Path, bytes: u64) -> io::Result<()> {
    if group::is_unified(folder) {
        // Without swap to count there is no such file.
        let _ = fs::write(folder.join("memory.swap.max"), "0");
        return fs::write(folder.join("memory.max"), bytes.to_string());
    }
    fs::write(folder.join("memory.limit_in_bytes"), bytes.to_string())?;
    let _ = fs::write(folder.join("memory.memsw.limit_in_bytes"), bytes.to_string());
    Ok(())
}

fn limit_cpu(folder: &Path, thousandths: u32) -> io::Result<()> {
    let quota = (u64::from(thousandths) * PERIOD / 1000).max(MIN_QUOTA);
    if group::is_unified(folder) {
        return fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD}"));
    }
    fs::write(folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
    fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())
}

/// 32-bit FNV-1a: the same in every version of ours.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
