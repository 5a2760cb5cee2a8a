//! Control groups: all processes of a run in one group, so that none escapes, and limits that the kernel enforces.
//!
//! Machines differ: they have one unified hierarchy (v2), one for each controller (v1), both side by side, or none.
//! Without privileges the daemon may make groups only in a group that was delegated to it. It makes them below its own
//! group: `pmr-<home>/run-<n>`. Grouping prefers v2, where a child is made in its group. Joining a v1 group waits for
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

/// v1 controllers whose hierarchy can be used for grouping, the best first.
const GROUPING: [&str; 3] = ["pids", "freezer", "memory"];
/// Name of the group to which the daemon itself moves on v2 if its group is to have inner groups with controllers: such
/// a group may hold no processes.
const OWN: &str = "daemon";
/// The period of the processor limit, in microseconds; the kernel's default.
const PERIOD: u64 = 100_000;
/// The smallest quota the kernel takes, in microseconds.
const MIN_QUOTA: u64 = 1_000;

/// Limits for all processes of a run together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, swap included where the kernel counts it.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of one processor.
    pub cpu: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// Why no group with the requested limits could be made.
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

/// The kind of control groups that is used for a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// The unified hierarchy.
    V2,
    /// A hierarchy for each controller.
    V1,
    /// The daemon may use no hierarchy for it.
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

/// What the daemon can use control groups for on this machine.
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

/// What a daemon of this home folder could do if it ran in the group of this process. Changes nothing.
#[must_use]
pub fn allowance(home: &Path) -> Allowance {
    let found = Cgroups::find(home, |_, _| ());
    let allowance = found.allowance();
    // Dropping it would remove the folder of a daemon that runs.
    std::mem::forget(found);
    allowance
}

/// The hierarchies that the daemon may use.
#[derive(Debug, Default)]
pub struct Cgroups {
    unified: Option<Tree>,
    separate: Vec<(Vec<String>, Tree)>,
}

/// The daemon's part of one hierarchy.
#[derive(Debug)]
struct Tree {
    /// The group that the daemon was started in.
    own: PathBuf,
    /// The group below it that holds the groups of runs.
    base: PathBuf,
}

impl Cgroups {
    /// Finds the hierarchies that the daemon of this home folder, which is this process, may use. If it is in the group
    /// of one of its own runs, it leaves that. Having none is no error.
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

    /// What these hierarchies can be used for.
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

    /// Makes the group of a run. `None` if groups cannot be made here and no limit is requested.
    ///
    /// # Errors
    /// Only if a requested limit cannot be set.
    pub fn create(&self, run: u64, limits: &Limits) -> Result<Option<Cgroup>, Refused> {
        self.make(&self.free_name(run), limits)
    }

    /// Makes a second group for a run, with the same limits, for processes that the daemon starts to check on it.
    /// `None` without v2, since only v2 makes this cheap. Limits whose controllers v2 does not have are left out.
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
        // If a limit is refused, dropping this removes the folders.
        let group = Cgroup::reopen(&paths);
        made.into_iter().flatten().collect::<Result<(), Refused>>()?;
        Ok(group)
    }

    /// Groups of runs that exist now, made by this daemon or an earlier one of this home folder.
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

    /// True if v2 has this controller and delegates it to the daemon.
    fn delegated(&self, controller: &str) -> bool {
        self.unified.as_ref().is_some_and(|tree| tree.has(controller))
    }

    /// A name for the group of a run. Another daemon of this home folder may have used the run's number, and processes
    /// of that run may still exist.
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

    /// Sets a limit in the hierarchy that has the controller. If the run has no folder there yet, one is made and added
    /// to `paths`.
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
    /// The folders are removed only if no run has a group any more.
    fn drop(&mut self) {
        self.trees().for_each(|tree| drop(fs::remove_dir(&tree.base)));
    }
}

impl Tree {
    /// `None` if this process may make no groups there.
    fn new(folder: &Path, name: &str) -> Option<Tree> {
        // A daemon that replaces another one, or was started by one of its own apps, is inside already.
        let base = folder.ancestors().find(|part| part.file_name().is_some_and(|last| last == name));
        let own = base.and_then(Path::parent).unwrap_or(folder).to_owned();
        // The kernel may allow making a folder where it does not allow moving processes.
        let ours = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        (ours(&own) && ours(&own.join("cgroup.procs"))).then(|| Tree { base: own.join(name), own })
    }

    /// Moves a daemon that was started by one of its own apps out of that app's group, in which it would be counted and
    /// killed with the app.
    fn leave_run(&self, folder: &Path) {
        let Ok(inner) = folder.strip_prefix(&self.base) else { return };
        if !inner.starts_with(OWN) {
            let to_own = fs::write(self.own.join("cgroup.procs"), "0");
            // If a group delegates controllers, only its innermost groups may hold processes.
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

    /// Delegates the controller to the groups of runs.
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

    /// A v2 group with processes of its own cannot delegate controllers to inner groups. If all of these processes are
    /// pmr's, they are moved into an inner group. False if there are other processes, which are left where they are.
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
        // Fails where the kernel does not account for swap: then there is no such file.
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

/// 32-bit FNV-1a. It must stay the same in every version, since it is part of the name of the group.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
