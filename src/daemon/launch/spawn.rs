//! Starts a process: what it gets, what is kept of it before it exists, and who is told.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::god::God;
use super::super::runs::table::LiveRun;
use super::bind_watch::Handover;
use super::child_fds::ChildFds;
use super::confine::Confined;
use super::environment;
use super::environment::Setting;
use super::given_sockets::PID_VARIABLE;
use crate::cluster::{self, Cluster, WorkerProtocol};
use crate::logs::{LineCounter, LineSearch, Output, Pumping};
use crate::os::net::{fdpass, packets};
use crate::os::process::{program, spawn, tree};
use crate::os::{clock, killpoint};
use crate::protocol::{EventKind, Run, channel};
use crate::spec::{AppSpec, Env, ExecMode, Mechanism, Program};
use crate::supervisor::{AppId, Input, Process, ProcessId};

impl God {
    pub(crate) fn spawn(&mut self, run: Run, id: ProcessId) -> Input {
        let process = self.supervisor.process(id).expect("a spawn is decided for a process that exists");
        let (app, instance) = (process.app, process.clone());
        let spec = Arc::clone(&self.supervisor.app(app).expect("an app outlives its processes").spec);
        match self.start(run, &instance, app, &spec) {
            Ok(()) => {
                self.note_pid(id);
                self.check_health(run);
                Input::Spawned { run }
            }
            Err(failure) => {
                self.abort_spawn(run, app);
                Input::SpawnFailed { run, error: failure.error, permanent: failure.permanent }
            }
        }
    }

    /// What was prepared for a run that did not come to be.
    fn abort_spawn(&mut self, run: Run, app: AppId) {
        self.checks.end(run);
        self.notifications.forget(run);
        if let Some(cluster) = self.clusters.get(&app) {
            cluster.gone(run);
        }
    }

    /// Keeps a worker that is about to start without connections until it is ready, if others serve meanwhile, or it needs
    /// none to become ready.
    pub(crate) fn mark_not_ready(&mut self, run: Run, app: AppId, spec: &AppSpec) {
        let serves = |process: &Process| process.app == app && process.serves();
        if spec.listens_before_ready() || (spec.may_be_withheld() && self.supervisor.processes().any(serves)) {
            self.cluster(app, spec).mark_not_ready(run);
        }
    }

    fn start(&mut self, run: Run, process: &Process, app: AppId, spec: &AppSpec) -> Result<(), StartFailure> {
        let mut child_fds = ChildFds::default();
        self.mark_not_ready(run, app, spec);
        self.hand_sockets(run, app, spec, &mut child_fds)?;
        let (logs, pid_file) = environment::files(&self.resources.home, spec, process);
        let home = self.resources.home.root();
        let now = clock::epoch_ms();
        let setting = Setting { spec, process, home, logs: &logs, pid_file: &pid_file, now };
        let mut confined = Confined::new(&self.resources.cgroups, self.resources.file_limit, run, &spec.confinement)?;
        let mark = self.runs.mark(run);
        self.notifications.equip(run, (&self.resources.home, &mark), spec, confined.user(), &mut child_fds)?;
        let ends = wire(run, spec, &mut child_fds)?;
        let mut env = environment::whole(&setting, &mark, &child_fds);
        confined.tell(&mut env, &spec.env);
        let command = command_line(
            spec,
            &confined.preload(self.resources.home.preload().join(super::super::boot::home_dir::PRELOAD_FILE)),
        )?;
        let argv: Vec<&OsStr> = command.argv.iter().map(OsStr::new).collect();

        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (out, out_write) = spawn::output_pipe()?;
        let (err, err_write) = spawn::output_pipe()?;
        let pipes = [tree::pipe_inode(&out)?, tree::pipe_inode(&err)?];
        confined.give(&[out_write.as_fd(), err_write.as_fd()]);
        let watch = self.hand_over_watch(run, spec)?;
        let launch = spawn::Launch {
            program: &command.program,
            argv: &argv,
            env: &env,
            pid_slot: (spec.mechanism() == Mechanism::Activation).then_some(PID_VARIABLE),
            cwd: &spec.cwd,
            fds: &child_fds.descriptors([null.as_fd(), out_write.as_fd(), err_write.as_fd()]),
            sibling: true,
            confinement: spawn::Confinement {
                watch_binds: watch.as_ref().map(Handover::theirs),
                ..spawn::Confinement::default()
            },
        };
        // Before there is a process: what it says and waits for must outlive us from its first moment.
        let names = output_names(run);
        self.resources.persistence.ledger.keep(&names[0], &out);
        self.resources.persistence.ledger.keep(&names[1], &err);
        let (channel_name, own_name) = (cluster::channel_name(run), cluster::own_channel_name(run));
        self.resources.persistence.ledger.keep(&channel_name, &ends.ipc);
        if let WorkerProtocol::Channel(own) = &ends.part {
            self.resources.persistence.ledger.keep(&own_name, own);
        }
        let started = confined.spawn(&launch);
        let spawned = match started {
            Ok(spawned) => spawned,
            Err(failure) => {
                let all = names.iter().chain([&channel_name, &own_name]);
                all.for_each(|name| self.resources.persistence.ledger.release(name));
                self.drop_watch(watch);
                return Err(StartFailure::explain(&failure));
            }
        };
        killpoint::pass("spawned");
        let pid = spawned.pid;

        let logs = [logs.out, logs.err];
        self.runs.confine(run, confined.group);
        self.runs.insert(run, LiveRun::new(pid, app, pipes, logs.clone()));
        self.runs.hold(run, spawned.pidfd);
        self.node_versions.remove(&process.id);
        for ((name, pipe), path) in names.into_iter().zip([out, err]).zip(logs) {
            let kept = self.kept(name, pipe);
            self.pump(vec![kept], path.as_deref());
        }
        let cluster = self.cluster(app, spec);
        cluster.join(run, process.instance, ends.ipc, ends.part);
        if let Some(watch) = watch {
            self.take_watch(app, spec, pid, watch);
        }
        let activation = self.cluster(app, spec).activation();
        if activation.knows(run) {
            activation.join(run, pid, spec.readiness.wait_ready || spec.mode == ExecMode::Fork);
        }
        self.publish(process.id, EventKind::Started { pid });
        Ok(())
    }

    /// The output of a run that is kept under this name, and who looks at it.
    pub(crate) fn kept(&mut self, name: String, pipe: OwnedFd) -> Kept {
        let run = run_of(&name);
        let awaited = run.and_then(|run| self.awaited_line(run));
        let tally = run.filter(|_| name.ends_with("err")).map(|run| self.stderr_rates.of(run));
        Kept { name, pipe, awaited, tally }
    }

    /// Moves what comes out of pipes, each kept under its name until it has ended, to a file.
    pub(crate) fn pump(&self, kept: Vec<Kept>, path: Option<&Path>) {
        let file = path.map(|path| self.resources.logs.open(path));
        let output = |Kept { name, pipe, awaited, tally }| {
            let file = file.clone();
            (name, Output { pipe, file, awaited, line_counter: tally })
        };
        let (names, outputs): (Vec<_>, Vec<_>) = kept.into_iter().map(output).unzip();
        match self.resources.logs.pump_all(outputs) {
            Ok(pumping) => names.into_iter().zip(pumping).for_each(|(name, pumping)| self.release_after(name, pumping)),
            Err(error) => {
                names.iter().for_each(|name| self.resources.persistence.ledger.release(name));
                tracing::error!("output cannot be read: {error}");
            }
        }
    }

    /// Ends with the pipe. Its number may be somebody else's by then; the record says what it was.
    fn release_after(&self, name: String, pumping: Pumping) {
        let ledger = self.resources.persistence.ledger.clone();
        tokio::task::spawn_local(async move {
            pumping.finished().await;
            ledger.release(&name);
        });
    }

    pub(crate) fn cluster(&mut self, app: AppId, spec: &AppSpec) -> &Cluster {
        let (memory, notices) = (&self.resources.persistence, &self.resources.notices);
        let options = cluster_options(spec);
        let new = || Cluster::new(options.clone(), app.0, memory.clone(), notices.clone());
        let cluster = self.clusters.entry(app).or_insert_with(new);
        cluster.set_options(options);
        cluster
    }
}

/// An output of a run, kept under a name.
pub(crate) struct Kept {
    /// See [`output_names`].
    pub name: String,
    /// Its read end.
    pub pipe: OwnedFd,
    /// A line that makes the run ready.
    pub awaited: Option<Arc<LineSearch>>,
    /// Counts its lines.
    pub tally: Option<Arc<LineCounter>>,
}

/// How the workers of an app share.
pub(crate) fn cluster_options(spec: &AppSpec) -> cluster::ClusterOptions {
    cluster::ClusterOptions { balance: spec.balance, sharing: spec.sharing.clone(), queue: spec.queue }
}

/// The names under which the ends of a run's output pipes are kept.
pub(crate) fn output_names(run: Run) -> [String; 2] {
    ["out", "err"].map(|stream| format!("log/{}/{stream}", run.0))
}

/// Whose output is kept under this name.
pub(crate) fn run_of(name: &str) -> Option<Run> {
    name.split('/').nth(1)?.parse().ok().map(Run)
}

/// Our ends of a process's channels.
struct Ends {
    ipc: OwnedFd,
    part: WorkerProtocol,
}

/// Gives a process its channels. Returns our ends.
fn wire(run: Run, spec: &AppSpec, child_fds: &mut ChildFds) -> io::Result<Ends> {
    let (ipc, theirs) = fdpass::channel_pair()?;
    let number = child_fds.give(theirs);
    child_fds.tell("NODE_CHANNEL_FD", number.to_string());
    child_fds.tell("NODE_CHANNEL_SERIALIZATION_MODE", "json");
    let own = match spec.mechanism() {
        Mechanism::None | Mechanism::Activation => None,
        Mechanism::Node => {
            // Unique among the runs, and the worker's `cluster.worker.id`.
            child_fds.tell("NODE_UNIQUE_ID", run.0.to_string());
            None
        }
        Mechanism::BindInterception => {
            let (ours, theirs) = packets::pair()?;
            let number = child_fds.give(theirs);
            child_fds.tell(channel::VARIABLE, number.to_string());
            Some(ours)
        }
    };
    Ok(Ends { ipc, part: part(spec, own) })
}

/// The part a worker takes in its cluster; `own` is our end of its channel of pmr's own.
pub(crate) fn part(spec: &AppSpec, own: Option<OwnedFd>) -> WorkerProtocol {
    match spec.mechanism() {
        Mechanism::None | Mechanism::Activation => WorkerProtocol::None,
        Mechanism::Node => WorkerProtocol::Node,
        Mechanism::BindInterception => own.map_or(WorkerProtocol::None, WorkerProtocol::Channel),
    }
}

/// Why a process could not be made.
struct StartFailure {
    error: String,
    permanent: bool,
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
