//! HealthChecks by command: one process each, judged by its exit code.
//!
//! It stands where the worker stands: its folder, environment, user, open-file limit, and view of files where that is
//! its own. It has the limits of the app, but in a control group of its own (v2): what a check takes is none of the
//! worker's, and cannot have the worker killed. It is our child and none of the worker's tree, so no stop waits for it,
//! and while it is not reaped its process group is certainly its own.
//!
//! A check ends with its time, and when nobody wants to know any more: the task that attends to it is never aborted,
//! it is let go of. Whatever the command left running goes too. Should we die, the kernel kills it and the keeper
//! reaps it; what it had started itself is found by [`CHECK_VARIABLE`] and killed by the next God.

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
/// How often it is looked whether all that was killed in a group is gone, and how long it is waited for in between.
const LOOKS: u32 = 50;
const GLANCE: Duration = Duration::from_millis(10);

/// A check by command: the command, and the child that runs it.
pub(crate) struct Exec {
    check: CommandCheck,
    group: Option<Rc<Cgroup>>,
    /// Attends to the child of the check before.
    last: Option<JoinHandle<()>>,
}

/// What it takes to check one run by a command.
pub(crate) struct CommandCheck {
    /// The command.
    pub command: Command,
    /// The app.
    pub spec: Arc<AppSpec>,
    /// The whole environment of the command, as `NAME=value`.
    pub env: Vec<String>,
    /// The user it is run as, if it is another than the daemon's.
    pub account: Option<Account>,
    /// Its limits.
    pub rlimits: [Rlimit; 1],
    /// Its control group, if there is one for it.
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

    /// Runs the command. Dropped while it runs, it ends the command.
    ///
    /// # Errors
    /// How it ended, unless well, with its last words; or why it could not be started.
    pub(crate) async fn ask(&mut self) -> Result<(), String> {
        let name = self.name();
        let failed = |why: &str| format!("`{name}` {why}");
        if self.last.as_ref().is_some_and(|task| !task.is_finished()) {
            return Err(failed("does not end, though it was killed"));
        }
        let child = self.start().map_err(|why| failed(&why))?;
        let (_hold, let_go) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        self.last = Some(tokio::task::spawn_local(child.attend(let_go, tell)));
        match told.await {
            Ok((Some(Ended::Code(0)), _)) => Ok(()),
            Ok((ended, output)) => {
                let how = in_words(table::exit(ended, None));
                Err(output.last_line().map_or_else(|| failed(&how), |line| failed(&format!("{how}: {line}"))))
            }
            Err(_) => Err(failed("was not seen to its end")),
        }
    }

    fn start(&self) -> Result<Child, String> {
        let (program, argv) = self.command_line()?;
        let argv: Vec<&OsStr> = argv.iter().map(OsStr::new).collect();
        let rules = &self.check.spec.confinement;
        let isolated = rules.private_tmp || !rules.read_only_paths.is_empty();
        let worker =
            isolated.then(|| pidfd::reopen(self.check.worker.0, self.check.worker.1).ok_or("has no worker any more"));
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
        child.map_err(|error| format!("cannot be attended to: {error}"))
    }

    /// The file to execute, and what it sees as its name and arguments.
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

/// A check under way.
struct Child {
    pid: i32,
    process: AsyncFd<OwnedFd>,
    said: pipe::Receiver,
    group: Option<Rc<Cgroup>>,
}

impl Child {
    /// One that cannot be attended to is killed.
    fn new(pid: i32, process: OwnedFd, output: OwnedFd, group: Option<Rc<Cgroup>>) -> std::io::Result<Child> {
        let attended = pidfd::watch(process).and_then(|process| Ok((process, pipe::Receiver::from_owned_fd(output)?)));
        match attended {
            Ok((process, said)) => Ok(Child { pid, process, said, group }),
            Err(error) => {
                kill_tree(pid);
                reap::reap(pid);
                Err(error)
            }
        }
    }

    /// Sees it to its end, which comes when it is let go of at the latest, and tells of it.
    async fn attend(mut self, let_go: oneshot::Receiver<()>, tell: oneshot::Sender<(Option<Ended>, Output)>) {
        let mut output = Output::default();
        tokio::select! {
            // An error means that nobody can wait for it: it is ended.
            _ = self.process.readable() => {}
            _ = let_go => kill_tree(self.pid),
            () = output.gather(&mut self.said) => {}
        }
        self.end_group();
        let _ = self.process.readable().await;
        output.finish(&self.said);
        let ended = reap::reap_if_ended(self.pid);
        self.group_is_empty().await;
        // Who asked may have gone.
        let _ = tell.send((ended, output));
    }

    /// Ends what the command left running.
    fn end_group(&self) {
        // There may be nobody left.
        let _ = tree::signal_group(self.pid, libc::SIGKILL);
        if let Some(group) = &self.group {
            group.kill_each();
        }
    }

    /// Who was killed in a group may be in it for a moment: it could not be removed.
    async fn group_is_empty(&self) {
        let Some(group) = &self.group else { return };
        for _ in 0..LOOKS {
            if group.procs().is_empty() {
                return;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }
}

/// Also what has left its process group, as far as it can be found.
fn kill_tree(pid: i32) {
    for pid in tree::descendants(&[pid]) {
        // It may have ended in this very moment.
        let _ = tree::signal(pid, libc::SIGKILL);
    }
    let _ = tree::signal_group(pid, libc::SIGKILL);
}
