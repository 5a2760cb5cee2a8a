//! Starting a program in a session of its own, with named descriptors and nothing else.
//!
//! The child is made by `clone3` with our memory and its own stack, as `posix_spawn` does it: its cost does not grow
//! with the daemon. Between its birth and the program, `child` prepares it; we sleep until it is done, and then read
//! in our own memory which step failed, if one did.

mod child;
mod clone;
mod isolate;
#[cfg(test)]
mod tests;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use rustix::process::Resource;

use child::Plan;
pub(crate) use child::become_user;
use clone::Way;

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The file to execute.
    pub program: &'a Path,
    /// What the program sees as its own name and its arguments.
    pub argv: &'a [&'a OsStr],
    /// Its whole environment, as `NAME=value`.
    pub env: &'a [String],
    /// A variable beside those that holds the process's own pid, such as `LISTEN_PID`.
    pub pid_slot: Option<&'a str>,
    /// Its working directory.
    pub cwd: &'a Path,
    /// Descriptors 0, 1, 2 and so on: all it gets.
    pub fds: &'a [BorrowedFd<'a>],
    /// True if our parent is to be its parent, which then reaps it, after a failed start too.
    pub sibling: bool,
    /// How it is confined.
    pub confinement: Confinement<'a>,
}

/// What a process may not do, is not, or belongs to. By default it is as free as we are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Confinement<'a> {
    /// The folder of the cgroup (v2) that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Files `cgroup.procs`, open for writing, of cgroups (v1) that it joins.
    pub cgroup_procs: &'a [BorrowedFd<'a>],
    /// Limits that differ from ours.
    pub rlimits: &'a [Rlimit],
    /// Who it is, if not who we are.
    pub credentials: Option<&'a Credentials>,
    /// True if no program it executes can gain privileges.
    pub no_new_privs: bool,
    /// What it can read and not change, with all beneath. Without privileges it takes a user namespace, in which other
    /// users than its own have no names.
    pub read_only: &'a [PathBuf],
    /// True if `/tmp` and `/var/tmp` are empty, its own, and gone with it.
    pub private_tmp: bool,
    /// A process (pidfd, Linux 5.8) whose view of files it shares, in place of one of its own: its mount namespace, and
    /// its user namespace where that is another than ours.
    pub view_of: Option<BorrowedFd<'a>>,
    /// True if the kernel kills it when the thread that starts it ends. Not to be combined with [`Launch::sibling`].
    pub dies_with_us: bool,
    /// The child's end of a [`super::super::seccomp::handover`], if its binds are to be watched. It then holds for all that
    /// descend from it; unless we have `CAP_SYS_ADMIN`, no program beneath can gain privileges.
    pub watch_binds: Option<BorrowedFd<'a>>,
}

/// A limit the kernel keeps for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// What holds. `u64::MAX` is no limit.
    pub soft: u64,
    /// How far the process itself can raise it.
    pub hard: u64,
}

/// Whom a process acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups: these and no others.
    pub groups: Vec<u32>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is its session and process group as well.
    pub pid: i32,
    /// The process itself: no other process ever answers to it. Close-on-exec.
    pub pidfd: OwnedFd,
}

/// What happens between the wish for a process and its first instruction, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Putting its strings together.
    Arguments,
    /// Making a process.
    Clone,
    /// `setsid`.
    Session,
    /// Entering a cgroup.
    Cgroup,
    /// Seeing the files in a way of its own.
    Namespace,
    /// Protecting the path of this number.
    ReadOnly(usize),
    /// Giving it a `/tmp` of its own.
    PrivateTmp,
    /// Placing its descriptors.
    Descriptors,
    /// Having its binds watched.
    WatchBinds,
    /// Setting this limit.
    Limit(Resource),
    /// Entering its folder.
    Folder,
    /// Setting supplementary groups.
    Groups,
    /// Setting the group.
    Group,
    /// Setting the user.
    User,
    /// Giving up new privileges.
    NoNewPrivs,
    /// Having it killed when we die.
    DeathSignal,
    /// Executing the program.
    Execute,
}

/// Why there is no process.
#[derive(Debug)]
pub struct Failure {
    /// What was being done.
    pub step: Step,
    /// What the system said.
    pub error: io::Error,
    /// The step in words, with the path it was about.
    doing: String,
}

impl Failure {
    fn new(launch: &Launch<'_>, step: Step, error: io::Error) -> Failure {
        let doing = match step {
            Step::Arguments => "preparing its arguments".to_owned(),
            Step::Clone => "making a process".to_owned(),
            Step::Session => "making a session".to_owned(),
            Step::Cgroup => "joining its control group".to_owned(),
            Step::Namespace => "making a mount namespace, for read-only paths or a private /tmp".to_owned(),
            Step::ReadOnly(number) => {
                let path = launch.confinement.read_only.get(number).map(|path| path.display().to_string());
                format!("making {} read-only", path.unwrap_or_default())
            }
            Step::PrivateTmp => "making a private /tmp".to_owned(),
            Step::Descriptors => "placing its file descriptors".to_owned(),
            Step::WatchBinds => "having its binds watched (seccomp)".to_owned(),
            Step::Limit(resource) => format!("setting its limit of {}", name(resource)),
            Step::Folder => format!("changing to folder {}", launch.cwd.display()),
            Step::Groups => "setting the supplementary groups".to_owned(),
            Step::Group => "setting the group".to_owned(),
            Step::User => "setting the user".to_owned(),
            Step::NoNewPrivs => "giving up new privileges".to_owned(),
            Step::DeathSignal => "having it end with the daemon".to_owned(),
            Step::Execute => launch.program.display().to_string(),
        };
        Failure { step, error, doing }
    }
}

fn name(resource: Resource) -> String {
    match resource {
        Resource::Nofile => "open files".to_owned(),
        Resource::Nproc => "processes".to_owned(),
        Resource::Core => "core dump size".to_owned(),
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.error)
    }
}

impl std::error::Error for Failure {}

/// Starts it. Every signal is back to its default and unblocked, and no descriptor of ours is open but those named.
///
/// To be called on the thread that reaps our children.
///
/// # Errors
/// Names the step that failed. The child that was to become the program is reaped, unless it was a sibling.
pub fn spawn(launch: &Launch<'_>) -> Result<Spawned, Failure> {
    let mut plan = plan(launch).map_err(|error| Failure::new(launch, Step::Arguments, error))?;
    match run(launch, &mut plan, Way::Clone3) {
        Err(failure) if failure.step == Step::Clone && clone::is_forbidden(&failure.error) => {
            run(launch, &mut plan, Way::Clone)
        }
        result => result,
    }
}

fn run(launch: &Launch<'_>, plan: &mut Plan, way: Way) -> Result<Spawned, Failure> {
    let dumpable = Dumpable::read();
    let made = clone::clone(way, plan, launch.sibling, launch.confinement.cgroup);
    drop(dumpable);
    let spawned = made.map_err(|error| Failure::new(launch, Step::Clone, error))?;
    match plan.failure {
        None => Ok(spawned),
        Some((step, errno)) => {
            if !launch.sibling {
                super::reap::reap(spawned.pid);
            }
            Err(Failure::new(launch, step, io::Error::from_raw_os_error(errno)))
        }
    }
}

fn plan(launch: &Launch<'_>) -> io::Result<Plan> {
    let entry = |text: &String| c_string(OsStr::new(text)).map(CString::into_bytes_with_nul);
    let mut env = launch.env.iter().map(entry).collect::<io::Result<Vec<_>>>()?;
    if let Some(name) = launch.pid_slot {
        env.push(c_string(OsStr::new(&format!("{name}={}", i32::MAX)))?.into_bytes_with_nul());
    }
    // Out of the way of the numbers that it gets.
    let lowest = i32::try_from(launch.fds.len()).unwrap_or(i32::MAX);
    let aside = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, lowest);
    let raw = |fds: &[BorrowedFd<'_>]| fds.iter().map(AsRawFd::as_raw_fd).collect::<Vec<i32>>();
    Ok(Plan {
        program: c_string(launch.program.as_os_str())?,
        argv: child::Strings::new(
            launch.argv.iter().map(|arg| Ok(c_string(arg)?.into_bytes_with_nul())).collect::<io::Result<_>>()?,
        ),
        env: child::Strings::new(env),
        pid_slot: launch.pid_slot.map(|name| name.len() + 1),
        cwd: c_string(launch.cwd.as_os_str())?,
        fds: raw(launch.fds),
        cgroup: None,
        cgroup_procs: raw(launch.confinement.cgroup_procs),
        watch_binds: launch.confinement.watch_binds.map(aside).transpose()?,
        rlimits: launch.confinement.rlimits.to_vec(),
        credentials: launch.confinement.credentials.cloned(),
        no_new_privs: launch.confinement.no_new_privs,
        isolation: isolate::Isolation::new(launch.confinement.read_only, launch.confinement.private_tmp)?,
        view_of: launch.confinement.view_of.map(|process| process.as_raw_fd()),
        dies_with: launch.confinement.dies_with_us.then(super::identity::pid),
        failure: None,
    })
}

/// The child shares our memory, and one that becomes somebody else marks that memory as not to be looked into, which
/// would hold for us ever after. Dropping this takes the mark back.
struct Dumpable(i32);

impl Dumpable {
    fn read() -> Dumpable {
        // SAFETY: the call takes numbers only.
        Dumpable(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) })
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.0 == 1 {
            // SAFETY: the call takes numbers only.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
        }
    }
}

/// A pipe whose read end is non-blocking, for us, and whose write end is a plain one, for a child.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in a path, argument or variable"))
}
