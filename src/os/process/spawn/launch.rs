//! What is to be started, and what the attempt yields: a process, or the step that failed.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use rustix::process::Resource;

use crate::os::process::credentials::Credentials;

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The file to execute.
    pub program: &'a Path,
    /// What the program sees as its own name and its arguments.
    pub argv: &'a [&'a OsStr],
    /// Its whole environment, as `NAME=value`.
    pub env: &'a [String],
    /// Name of an additional variable that holds the process's own pid, such as `LISTEN_PID`.
    pub pid_slot: Option<&'a str>,
    /// Its working directory.
    pub cwd: &'a Path,
    /// Descriptors 0, 1, 2 and so on. The program gets no others.
    pub fds: &'a [BorrowedFd<'a>],
    /// True if the parent of this process is to be the parent of the new one. It then reaps it, after a failed start
    /// too.
    pub sibling: bool,
    /// How it is confined.
    pub confinement: Confinement<'a>,
}

/// Limits on what a process may do, and the groups it belongs to. By default there are none but those of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Confinement<'a> {
    /// The folder of the cgroup (v2) in which the process begins.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Files `cgroup.procs`, open for writing, of cgroups (v1) that it joins.
    pub cgroup_procs: &'a [BorrowedFd<'a>],
    /// Limits that differ from those of this process.
    pub rlimits: &'a [Rlimit],
    /// User and groups, if they differ from those of this process.
    pub credentials: Option<&'a Credentials>,
    /// True if no program that it executes can gain privileges.
    pub no_new_privs: bool,
    /// Paths that it can read but not change, with all beneath them. Without privileges this takes a user namespace, in
    /// which users other than its own have no names.
    pub read_only: &'a [PathBuf],
    /// True if it gets an empty `/tmp` and `/var/tmp` of its own, which are gone when it ends.
    pub private_tmp: bool,
    /// A process (pidfd, Linux 5.8) whose mount namespace it shares, and whose user namespace if that is another one
    /// than that of this process.
    pub view_of: Option<BorrowedFd<'a>>,
    /// True if the kernel kills it when the thread that starts it ends. Not to be combined with [`Launch::sibling`].
    pub dies_with_us: bool,
    /// The child's end of a [`crate::os::seccomp::handover`], if its binds are to be intercepted. That then holds for
    /// all its descendants. Unless this process has `CAP_SYS_ADMIN`, none of them can gain privileges.
    pub watch_binds: Option<BorrowedFd<'a>>,
}

/// A limit that the kernel enforces for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The resource that is limited.
    pub resource: Resource,
    /// The limit in force. `u64::MAX` is no limit.
    pub soft: u64,
    /// The limit up to which the process itself can raise the soft one.
    pub hard: u64,
}

/// A process that was started.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is the id of its session and process group as well.
    pub pid: i32,
    /// A descriptor of the process, close-on-exec. Unlike the pid it never stands for another process.
    pub pidfd: OwnedFd,
}

/// The steps of a start, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Preparing paths, arguments and environment as C strings.
    Arguments,
    /// Making the process.
    Clone,
    /// `setsid`.
    Session,
    /// Joining a cgroup.
    Cgroup,
    /// Making or entering a mount namespace.
    Namespace,
    /// Protecting the path with this index in [`Confinement::read_only`].
    ReadOnly(usize),
    /// Giving it a `/tmp` of its own.
    PrivateTmp,
    /// Placing its descriptors.
    Descriptors,
    /// Installing the filter that reports its binds.
    WatchBinds,
    /// Setting this limit.
    Limit(Resource),
    /// Changing to its working directory.
    Folder,
    /// Setting supplementary groups.
    Groups,
    /// Setting the group.
    Group,
    /// Setting the user.
    User,
    /// Giving up new privileges.
    NoNewPrivs,
    /// Requesting the signal at the death of the parent.
    DeathSignal,
    /// Executing the program.
    Execute,
}

/// Why a start failed.
#[derive(Debug)]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// The error of the system call.
    pub error: io::Error,
    /// The step in words, with the path it concerns.
    doing: String,
}

impl Failure {
    pub(super) fn new(launch: &Launch<'_>, step: Step, error: io::Error) -> Failure {
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
