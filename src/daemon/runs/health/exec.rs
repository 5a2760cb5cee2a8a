//! Health checks by command: each check is one child process, judged by its exit code.
//!
//! The command gets what the worker has: folder, environment, user, open-file limit, and mount namespace if the worker
//! has its own. It has the limits of the app, but in a control group of its own (v2), so that a check takes nothing from
//! the worker and cannot get the worker killed. The command is a child of God and does not belong to the worker's tree,
//! so no stop of the worker waits for it. Until God reaps it, the id of its process group cannot be used by another.
//!
//! The command ends when its time is over, and when the check is dropped. The task that watches the child is never
//! aborted: dropping the check makes it kill the child, and wait for it. It also kills what the command left running. If
//! God dies, the kernel kills the command and the keeper reaps it; the next God finds what the command had started by
//! [`CHECK_VARIABLE`] and kills it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::table;
use super::output::Output;
use crate::os::cgroup::{Cgroup, Entry};
use crate::os::killpoint;
use crate::os::process::identity::Account;
use crate::os::process::reap;
use crate::os::process::reap::Ended;
use crate::os::process::spawn;
use crate::os::process::spawn::{Confinement, Launch, Rlimit, Step};
use crate::os::process::{pidfd, program, tree};
use crate::spec::AppSpec;
use crate::spec::health::Command;
use crate::supervisor::restart::in_words;
#[cfg(doc)]
use table::CHECK_VARIABLE;

/// The shell for command lines, as in Docker.
const SHELL: &str = "/bin/sh";
/// How often to check whether a control group is empty after its processes were killed, and how long to wait in between.
const EMPTY_CHECKS: u32 = 50;
const EMPTY_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// A check by command: the command, and the child that runs it.
pub(crate) struct Exec {
    check: CommandCheck,
    group: Option<Rc<Cgroup>>,
    /// The task that watches the child of the last check.
    last: Option<JoinHandle<()>>,
}

/// Everything that is needed to check one run by a command.
pub(crate) struct CommandCheck {
    /// The command.
    pub command: Command,
    /// The app.
    pub spec: Arc<AppSpec>,
    /// The whole environment of the command, as `NAME=value`.
    pub env: Vec<String>,
    /// The user the command runs as, if it is another than the daemon's.
    pub account: Option<Account>,
    /// Resource limits of the command.
    pub rlimits: [Rlimit; 1],
    /// The control group of the command, if the machine has such groups.
    pub group: Option<Cgroup>,
    /// Pid and start time (in clock ticks since boot) of the run's main process.
    pub worker: (i32, u64),
}

impl Exec {
    /// A check that has not been made yet.
    pub(crate) fn new(mut check: CommandCheck) -> Exec {
        let group = check.group.take().map(Rc::new);
        Exec { check, group, last: None }
    }

    /// The command, short enough for a message.
    pub(crate) fn name(&self) -> String {
        const LONGEST: usize = 60;
        let name = self.check.command.to_string();
        if name.chars().count() <= LONGEST { name } else { name.chars().take(LONGEST).chain("...".chars()).collect() }
    }

    /// Runs the command once. If the future is dropped before the end, the command is killed.
    ///
    /// # Errors
    /// How the command ended if not with code 0, and the last line of its output; or why it could not be started.
    pub(crate) async fn run(&mut self) -> Result<(), String> {
        let name = self.name();
        let failed = |why: &str| format!("`{name}` {why}");
        if self.last.as_ref().is_some_and(|task| !task.is_finished()) {
            return Err(failed("has not ended, though it was killed"));
        }
        let child = self.start().map_err(|why| failed(&why))?;
        // Dropped with this future: `dropped` then completes.
        let (_alive, dropped) = oneshot::channel();
        let (result_in, result) = oneshot::channel();
        self.last = Some(tokio::task::spawn_local(child.watch(dropped, result_in)));
        match result.await {
            Ok((Some(Ended::Code(0)), _)) => Ok(()),
            Ok((ended, output)) => {
                let how = in_words(table::exit(ended, None));
                Err(output.last_line().map_or_else(|| failed(&how), |line| failed(&format!("{how}: {line}"))))
            }
            Err(_) => Err(failed("could not be waited for")),
        }
    }

    fn start(&self) -> Result<Child, String> {
        let (program, argv) = self.command_line()?;
        let argv: Vec<&OsStr> = argv.iter().map(OsStr::new).collect();
        let rules = &self.check.spec.confinement;
        let isolated = rules.private_tmp || !rules.read_only_paths.is_empty();
        let worker =
            isolated.then(|| pidfd::reopen(self.check.worker.0, self.check.worker.1).ok_or("has no worker to check"));
        let worker = worker.transpose()?;
        let in_words = |error: std::io::Error| format!("cannot be run: {error}");
        let null = File::open("/dev/null").map_err(in_words)?;
        let (output, write) = spawn::output_pipe().map_err(in_words)?;
        let entry = self.group.as_ref().and_then(|group| group.entry().ok());
        let confinement = Confinement {
            cgroup: entry.as_ref().and_then(Entry::folder),
            rlimits: &self.check.rlimits,
            credentials: self.check.account.as_ref().map(|account| &account.credentials),
            no_new_privs: rules.no_new_privs,
            view_of: worker.as_ref().map(AsFd::as_fd),
            dies_with_us: true,
            ..Confinement::default()
        };
        let launch = Launch {
            program: &program,
            argv: &argv,
            env: &self.check.env,
            pid_slot: None,
            cwd: &self.check.spec.cwd,
            fds: &[null.as_fd(), write.as_fd(), write.as_fd()],
            sibling: false,
            confinement,
        };
        let spawned = match spawn::spawn(&launch) {
            Err(failure) if matches!(failure.step, Step::Clone | Step::Cgroup) && entry.is_some() => {
                spawn::spawn(&Launch { confinement: Confinement { cgroup: None, ..confinement }, ..launch })
            }
            result => result,
        };
        let spawned = spawned.map_err(|failure| format!("cannot be run: {failure}"))?;
        killpoint::pass("checking");
        let child = Child::new(spawned.pid, spawned.pidfd, output, self.group.clone());
        child.map_err(|error| format!("cannot be watched: {error}"))
    }

    /// The file to execute and its `argv`.
    fn command_line(&self) -> Result<(PathBuf, Vec<String>), String> {
        match &self.check.command {
            Command::Line(line) => Ok((SHELL.into(), vec!["sh".to_owned(), "-c".to_owned(), line.clone()])),
            Command::Words(words) => {
                let path = self.check.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
                let path = path.unwrap_or(program::DEFAULT_PATH);
                let found = program::find(&words[0], path, &self.check.spec.cwd);
                Ok((found.ok_or_else(|| format!("is not in the app's PATH ({path})"))?, words.clone()))
            }
        }
    }
}

/// The process that runs the command.
struct Child {
    pid: i32,
    /// Its pidfd, readable once the process has ended.
    process: AsyncFd<OwnedFd>,
    /// The read end of its standard output and standard error.
    output: pipe::Receiver,
    group: Option<Rc<Cgroup>>,
}

impl Child {
    /// Prepares to watch the process; if that fails, the process is killed and reaped.
    fn new(pid: i32, process: OwnedFd, output: OwnedFd, group: Option<Rc<Cgroup>>) -> std::io::Result<Child> {
        let watched = pidfd::watch(process).and_then(|process| Ok((process, pipe::Receiver::from_owned_fd(output)?)));
        match watched {
            Ok((process, output)) => Ok(Child { pid, process, output, group }),
            Err(error) => {
                kill_tree(pid);
                reap::reap(pid);
                Err(error)
            }
        }
    }

    /// Waits for the end of the process, and kills it when the check is dropped. Then kills what it left running, reaps it,
    /// and sends how it ended and its output.
    async fn watch(mut self, dropped: oneshot::Receiver<()>, result: oneshot::Sender<(Option<Ended>, Output)>) {
        let mut output = Output::default();
        tokio::select! {
            // After an error the end cannot be waited for: the process is killed below.
            _ = self.process.readable() => {}
            _ = dropped => kill_tree(self.pid),
            () = output.read_all(&mut self.output) => {}
        }
        self.kill_group();
        let _ = self.process.readable().await;
        output.read_rest(&self.output);
        let ended = reap::reap_if_ended(self.pid);
        self.wait_for_empty_group().await;
        // Fails if the check was dropped.
        let _ = result.send((ended, output));
    }

    /// Kills what the command left running.
    fn kill_group(&self) {
        // Fails if no process is left.
        let _ = tree::signal_group(self.pid, libc::SIGKILL);
        if let Some(group) = &self.group {
            group.kill_each();
        }
    }

    /// Waits until the control group is empty, since it can be removed only then. A killed process stays in it for a
    /// moment.
    async fn wait_for_empty_group(&self) {
        let Some(group) = &self.group else { return };
        for _ in 0..EMPTY_CHECKS {
            if group.procs().is_empty() {
                return;
            }
            tokio::time::sleep(EMPTY_CHECK_INTERVAL).await;
        }
    }
}

/// Kills the process, its descendants, also those that left its process group, and the rest of its group.
fn kill_tree(pid: i32) {
    for pid in tree::descendants(&[pid]) {
        // Fails if the process has ended meanwhile.
        let _ = tree::signal(pid, libc::SIGKILL);
    }
    let _ = tree::signal_group(pid, libc::SIGKILL);
}
