//! Starts a process: prepares what it gets, keeps our ends of its pipes and channels in the ledger before it exists, and
//! enters it in the table of runs and in its cluster.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::super::clusters::Clusters;
use super::super::disk::home_dir;
use super::super::runs::Runs;
use super::super::runs::table::LiveRun;
use super::bind_watch::Handover;
use super::child_fds::ChildFds;
use super::confine::Confined;
use super::environment::Setting;
use super::output::{KeptOutput, output_names};
use super::{Launcher, environment, given_sockets};
use crate::cluster::{self, WorkerProtocol};
use crate::os::net::{fdpass, packets};
use crate::os::process::{program, spawn, tree};
use crate::os::{clock, killpoint};
use crate::protocol::{Run, channel};
use crate::spec::{AppSpec, Env, ExecMode, Mechanism, Program};
use crate::supervisor::{Process, Supervisor};

impl Launcher {
    /// Starts a run of a process and returns the pid of its main process. On failure everything that was prepared for it
    /// is released.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn start(
        &self,
        run: Run,
        process: &Process,
        spec: &AppSpec,
        supervisor: &Supervisor,
        (runs, clusters): (&mut Runs, &mut Clusters),
    ) -> Result<i32, StartFailure> {
        let started = self.try_start(run, process, spec, supervisor, (runs, clusters));
        if started.is_err() {
            runs.abort(run);
            if let Some(cluster) = clusters.get(process.app) {
                cluster.gone(run);
            }
        }
        started
    }

    fn try_start(
        &self,
        run: Run,
        process: &Process,
        spec: &AppSpec,
        supervisor: &Supervisor,
        (runs, clusters): (&mut Runs, &mut Clusters),
    ) -> Result<i32, StartFailure> {
        let app = process.app;
        let mut child_fds = ChildFds::default();
        clusters.mark_not_ready(run, app, spec, supervisor);
        if spec.mechanism() == Mechanism::Activation {
            given_sockets::hand_over(run, clusters.open(app, spec).activation(), spec, &mut child_fds)?;
        }
        let (logs, pid_file) = environment::files(&self.home, spec, process);
        let setting =
            Setting { spec, process, home: self.home.root(), logs: &logs, pid_file: &pid_file, now: clock::epoch_ms() };
        let mut confined = Confined::new(&self.cgroups, self.file_limit, run, &spec.confinement)?;
        let mark = runs.table.mark(run);
        for (name, value) in runs.notifications.open(run, (&self.home, &mark), spec, confined.user())? {
            child_fds.set_variable(name, value);
        }
        let ends = open_channels(run, spec, &mut child_fds)?;
        let mut env = environment::whole(&setting, &mark, &child_fds);
        confined.set_account_variables(&mut env, &spec.env);
        let command = command_line(spec, &confined.preload(self.home.preload().join(home_dir::PRELOAD_FILE)))?;
        let argv: Vec<&OsStr> = command.argv.iter().map(OsStr::new).collect();

        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (out, out_write) = spawn::output_pipe()?;
        let (err, err_write) = spawn::output_pipe()?;
        let pipes = [tree::pipe_inode(&out)?, tree::pipe_inode(&err)?];
        confined.give(&[out_write.as_fd(), err_write.as_fd()]);
        let watch = self.bind_watches.prepare(run, spec)?;
        let launch = spawn::Launch {
            program: &command.program,
            argv: &argv,
            env: &env,
            pid_slot: (spec.mechanism() == Mechanism::Activation).then_some(given_sockets::PID_VARIABLE),
            cwd: &spec.cwd,
            fds: &child_fds.descriptors([null.as_fd(), out_write.as_fd(), err_write.as_fd()]),
            sibling: true,
            confinement: spawn::Confinement {
                watch_binds: watch.as_ref().map(Handover::theirs),
                ..spawn::Confinement::default()
            },
        };
        // Before the process exists, since its output and its connections must outlive God from the first moment.
        let kept = self.keep(run, [&out, &err], &ends);
        let spawned = match confined.spawn(&launch) {
            Ok(spawned) => spawned,
            Err(failure) => {
                kept.iter().for_each(|name| self.ledger.release(name));
                self.bind_watches.abort(watch);
                return Err(StartFailure::explain(&failure));
            }
        };
        killpoint::pass("spawned");
        let logs = [logs.out, logs.err];
        runs.table.set_group(run, confined.group);
        runs.table.insert(run, LiveRun::new(spawned.pid, app, pipes, logs.clone()));
        runs.table.set_pidfd(run, spawned.pidfd);
        for ((name, pipe), path) in output_names(run).into_iter().zip([out, err]).zip(logs) {
            let output = KeptOutput::new(name, pipe, supervisor, runs);
            self.pump(vec![output], path.as_deref());
        }
        self.join_cluster(run, process, spec, (spawned.pid, ends, watch), clusters);
        Ok(spawned.pid)
    }

    /// Keeps our ends of a run's pipes and channels. Returns the names they are kept under.
    fn keep(&self, run: Run, [out, err]: [&OwnedFd; 2], ends: &ChannelEnds) -> Vec<String> {
        let [out_name, err_name] = output_names(run);
        self.ledger.keep(&out_name, out);
        self.ledger.keep(&err_name, err);
        let (channel_name, own_name) = (cluster::channel_name(run), cluster::own_channel_name(run));
        self.ledger.keep(&channel_name, &ends.ipc);
        if let WorkerProtocol::Channel(own) = &ends.protocol {
            self.ledger.keep(&own_name, own);
        }
        vec![out_name, err_name, channel_name, own_name]
    }

    fn join_cluster(
        &self,
        run: Run,
        process: &Process,
        spec: &AppSpec,
        (pid, ends, watch): (i32, ChannelEnds, Option<Handover>),
        clusters: &mut Clusters,
    ) {
        let cluster = clusters.open(process.app, spec);
        cluster.join(run, process.instance, ends.ipc, ends.protocol);
        if let Some(watch) = watch {
            self.bind_watches.begin(pid, watch, cluster);
        }
        let activation = cluster.activation();
        if activation.knows(run) {
            activation.join(run, pid, spec.readiness.wait_ready || spec.mode == ExecMode::Fork);
        }
    }
}

/// Our ends of a process's channels.
struct ChannelEnds {
    ipc: OwnedFd,
    protocol: WorkerProtocol,
}

/// Gives a process its channels. Returns our ends.
fn open_channels(run: Run, spec: &AppSpec, child_fds: &mut ChildFds) -> io::Result<ChannelEnds> {
    let (ipc, theirs) = fdpass::channel_pair()?;
    let number = child_fds.give(theirs);
    child_fds.set_variable("NODE_CHANNEL_FD", number.to_string());
    child_fds.set_variable("NODE_CHANNEL_SERIALIZATION_MODE", "json");
    let own = match spec.mechanism() {
        Mechanism::None | Mechanism::Activation => None,
        Mechanism::Node => {
            // Unique among the runs, and the worker's `cluster.worker.id`.
            child_fds.set_variable("NODE_UNIQUE_ID", run.0.to_string());
            None
        }
        Mechanism::BindInterception => {
            let (ours, theirs) = packets::pair()?;
            let number = child_fds.give(theirs);
            child_fds.set_variable(channel::VARIABLE, number.to_string());
            Some(ours)
        }
    };
    Ok(ChannelEnds { ipc, protocol: worker_protocol(spec, own) })
}

/// The protocol by which a worker gets connections; `own` is our end of its channel of pmr's own.
pub(crate) fn worker_protocol(spec: &AppSpec, own: Option<OwnedFd>) -> WorkerProtocol {
    match spec.mechanism() {
        Mechanism::None | Mechanism::Activation => WorkerProtocol::None,
        Mechanism::Node => WorkerProtocol::Node,
        Mechanism::BindInterception => own.map_or(WorkerProtocol::None, WorkerProtocol::Channel),
    }
}

/// Why a process could not be started.
pub(crate) struct StartFailure {
    /// In words.
    pub error: String,
    /// True if trying again cannot help.
    pub permanent: bool,
}

impl StartFailure {
    fn explain(failure: &spawn::Failure) -> StartFailure {
        StartFailure { error: failure.to_string(), permanent: is_permanent(&failure.error) }
    }
}

/// True if trying again cannot help.
fn is_permanent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(libc::ENOEXEC)
}

impl From<io::Error> for StartFailure {
    fn from(error: io::Error) -> StartFailure {
        StartFailure { error: error.to_string(), permanent: is_permanent(&error) }
    }
}

struct CommandLine {
    program: PathBuf,
    argv: Vec<String>,
}

/// The file to execute and its arguments. A Node cluster worker also loads the drain preload.
fn command_line(spec: &AppSpec, preload: &Path) -> Result<CommandLine, StartFailure> {
    let text = |path: &Path| path.display().to_string();
    let (program, mut argv) = match &spec.program {
        Program::Binary { path } => (path.clone(), vec![text(path)]),
        Program::CommandLine { line, shell } => (shell.clone(), vec![text(shell), "-c".to_owned(), line.clone()]),
        Program::Script { script, interpreter, interpreter_args } => {
            let mut argv = vec![interpreter.clone()];
            argv.extend(interpreter_args.iter().cloned());
            if spec.mechanism() == Mechanism::Node {
                argv.extend(["--require".to_owned(), text(preload)]);
            }
            argv.push(text(script));
            (find(interpreter, &spec.base_env, &spec.env, &spec.cwd)?, argv)
        }
    };
    argv.extend(spec.args.iter().cloned());
    Ok(CommandLine { program, argv })
}

fn find(interpreter: &str, base: &Env, own: &Env, cwd: &Path) -> Result<PathBuf, StartFailure> {
    let path = own.get("PATH").or_else(|| base.get("PATH")).map_or(program::DEFAULT_PATH, String::as_str);
    program::find(interpreter, path, cwd).ok_or_else(|| StartFailure {
        error: format!("the interpreter `{interpreter}` is not in the app's PATH ({path})"),
        permanent: true,
    })
}
