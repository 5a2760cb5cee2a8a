//! Carries out what the supervisor decides, one short function an effect.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::confine::Confined;
use super::environment::{self, Setting};
use super::god::{God, Reply};
use super::live::Live;
use crate::cluster::{self, Cluster};
use crate::logs::Pumping;
use crate::os::{clock, fdpass, killpoint, pidfd, proc, program, spawn, tree};
use crate::protocol::{EventKind, Refusal, Report, ReportLine, Run, Verdict};
use crate::spec::target::Selector;
use crate::spec::{AppSpec, Env, ExecMode, Program, interpreter, signal};
use crate::supervisor::{AppId, Effect, Goal, Input, Process, ProcessId};

/// A kill is repeated until it finds nothing new, in case the tree grows meanwhile; this often at most.
const KILL_ROUNDS: usize = 10;

impl God {
    /// Carries out one effect and returns what the supervisor is to know of it at once.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Spawn { run, process } => return Some(self.spawn(run, process)),
            Effect::Drain { run, grace } => match self.cluster_of(run) {
                Some(cluster) => cluster.drain(run, grace),
                None => return Some(Input::Drained { run }),
            },
            Effect::Terminate { run } => self.terminate(run),
            Effect::Kill { run } => self.kill(run),
            Effect::Signal { run, signal } => {
                if let Some(pid) = self.living.main(run) {
                    self.send(run, pid, signal);
                }
            }
            Effect::ProcessRemoved { process } => drop(self.node_versions.remove(&process)),
            Effect::AppRemoved { app } => self.close_cluster(app),
            Effect::Publish { process, kind } => {
                match kind {
                    EventKind::Online => self.note_pid(process),
                    EventKind::Stopped => self.close_if_down(process),
                    _ => {}
                }
                self.publish(process, kind);
            }
            Effect::Settle { ticket, answer } => self.settle(ticket, answer),
        }
        None
    }

    // Start.

    pub(super) fn spawn(&mut self, run: Run, id: ProcessId) -> Input {
        let process = self.supervisor.process(id).expect("a spawn is decided for a process that exists");
        let (app, instance) = (process.app, process.clone());
        let spec = Arc::clone(&self.supervisor.app(app).expect("an app outlives its processes").spec);
        match self.start(run, &instance, app, &spec) {
            Ok(()) => {
                self.note_pid(id);
                Input::Spawned { run }
            }
            Err(failure) => Input::SpawnFailed { run, error: failure.error, permanent: failure.permanent },
        }
    }

    fn start(&mut self, run: Run, process: &Process, app: AppId, spec: &AppSpec) -> Result<(), StartFailure> {
        let (logs, pid_file) = environment::files(&self.shell.home, spec, process);
        let home = self.shell.home.root();
        let now = clock::epoch_ms();
        let setting = Setting { spec, process, home, logs: &logs, pid_file: &pid_file, now };
        let mut confined = Confined::new(&self.shell.cgroups, self.shell.file_limit, run, &spec.confinement)?;
        let mut env = environment::whole(&setting, run, &self.living.mark(run));
        confined.tell(&mut env, &spec.env);
        let command =
            command_line(spec, &confined.preload(self.shell.home.preload().join(super::premises::PRELOAD_FILE)))?;
        let argv: Vec<&OsStr> = command.argv.iter().map(OsStr::new).collect();

        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (out, out_write) = spawn::output_pipe()?;
        let (err, err_write) = spawn::output_pipe()?;
        let pipes = [tree::pipe_inode(&out)?, tree::pipe_inode(&err)?];
        let (channel, theirs) = fdpass::channel_pair()?;
        confined.give(&[out_write.as_fd(), err_write.as_fd()]);
        let launch = spawn::Launch {
            program: &command.program,
            argv: &argv,
            env: &env,
            pid_slot: None,
            cwd: &spec.cwd,
            fds: &[null.as_fd(), out_write.as_fd(), err_write.as_fd(), theirs.as_fd()],
            sibling: true,
            confinement: spawn::Confinement::default(),
        };
        // Before there is a process: what it says and waits for must outlive us from its first moment.
        let names = output_names(run);
        self.shell.memory.ledger.keep(&names[0], &out);
        self.shell.memory.ledger.keep(&names[1], &err);
        let channel_name = cluster::channel_name(run);
        self.shell.memory.ledger.keep(&channel_name, &channel);
        let started = confined.spawn(&launch);
        if started.is_err() {
            names.iter().chain([&channel_name]).for_each(|name| self.shell.memory.ledger.release(name));
        }
        let spawned = started.map_err(|failure| StartFailure::explain(&failure))?;
        killpoint::pass("spawned");
        let pid = spawned.pid;

        let logs = [logs.out, logs.err];
        self.living.confine(run, confined.group);
        self.living.insert(run, Live::new(pid, app, pipes, logs.clone()));
        self.living.hold(run, spawned.pidfd);
        self.node_versions.remove(&process.id);
        for ((name, pipe), path) in names.into_iter().zip([out, err]).zip(logs) {
            self.pump(vec![(name, pipe)], path.as_deref());
        }
        self.cluster(app, spec).join(run, channel, spec.mode == ExecMode::Cluster);
        self.publish(process.id, EventKind::Started { pid });
        Ok(())
    }

    /// Moves what comes out of pipes, each kept under its name until it has ended, to a file.
    pub(super) fn pump(&self, pipes: Vec<(String, OwnedFd)>, path: Option<&Path>) {
        let file = path.map(|path| self.shell.logs.open(path));
        let (names, pipes): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        match self.shell.logs.pump_all(pipes.into_iter().map(|pipe| (pipe, file.clone()))) {
            Ok(pumping) => names.into_iter().zip(pumping).for_each(|(name, pumping)| self.release_after(name, pumping)),
            Err(error) => {
                names.iter().for_each(|name| self.shell.memory.ledger.release(name));
                tracing::error!("output cannot be read: {error}");
            }
        }
    }

    /// Ends with the pipe. Its number may be somebody else's by then; the record says what it was.
    fn release_after(&self, name: String, pumping: Pumping) {
        let ledger = self.shell.memory.ledger.clone();
        tokio::task::spawn_local(async move {
            pumping.finished().await;
            ledger.release(&name);
        });
    }

    pub(super) fn cluster(&mut self, app: AppId, spec: &AppSpec) -> &Cluster {
        let (memory, notices) = (&self.shell.memory, &self.shell.notices);
        let options = cluster::Options { balance: spec.balance };
        let cluster =
            self.clusters.entry(app).or_insert_with(|| Cluster::new(options, app.0, memory.clone(), notices.clone()));
        cluster.set_balance(spec.balance);
        cluster
    }

    fn cluster_of(&self, run: Run) -> Option<&Cluster> {
        self.clusters.get(&self.living.get(run)?.app)
    }

    // End.

    /// An app that is wanted nowhere gives its ports back. While one of its processes is wanted, however dead it is,
    /// the door stays open and connections wait.
    fn close_if_down(&mut self, id: ProcessId) {
        let Some(app) = self.supervisor.process(id).map(|process| process.app) else { return };
        let is_down = |process: &Process| process.goal != Goal::Up && process.is_empty();
        if self.supervisor.processes().filter(|process| process.app == app).all(is_down) {
            self.close_cluster(app);
        }
    }

    fn close_cluster(&mut self, app: AppId) {
        if let Some(cluster) = self.clusters.remove(&app) {
            cluster.close();
        }
    }

    /// Out of rotation first, then the stop signal to the whole tree, deepest first.
    fn terminate(&mut self, run: Run) {
        killpoint::pass("terminating");
        self.living.told_to_stop(run);
        killpoint::pass("told-to-stop");
        if let Some(cluster) = self.cluster_of(run) {
            cluster.exclude(run);
        }
        let stop = self.supervisor.process_of(run).and_then(|process| self.supervisor.app(process.app));
        let (by_message, whole) = stop.map_or((false, true), |app| (app.spec.stop.with_message, app.spec.stop.tree));
        let main = self.living.main(run);
        if let (true, Some(_), Some(cluster)) = (by_message, main, self.cluster_of(run)) {
            cluster.send(run, &serde_json::Value::from("shutdown"));
            return;
        }
        let tree = self.living.tree(run);
        for pid in tree.iter().rev().filter(|pid| whole || main.is_none_or(|main| main == **pid)) {
            self.send(run, *pid, signal::INT);
        }
    }

    /// The signal, then SIGCONT: a paused process can only then act on it. To the main process by a descriptor that
    /// never means another; the rest of a tree was looked at just now.
    fn send(&self, run: Run, pid: i32, number: i32) {
        let deliver = |number| match self.living.pidfd(run, pid) {
            Some(process) => pidfd::signal(process, number),
            None => tree::signal(pid, number),
        };
        let outcome = deliver(number);
        let outcome = if number == signal::INT { outcome.and_then(|()| deliver(libc::SIGCONT)) } else { outcome };
        if let Err(error) = outcome {
            tracing::warn!("{} to {pid}: {error}", signal::name(number));
        }
    }

    fn kill(&mut self, run: Run) {
        self.living.kill_group(run);
        let mut killed = Vec::new();
        for _ in 0..KILL_ROUNDS {
            // The dead stay in the tree until they are reaped.
            let fresh: Vec<i32> = self.living.tree(run).into_iter().filter(|pid| !killed.contains(pid)).collect();
            if fresh.is_empty() {
                return;
            }
            for pid in &fresh {
                self.send(run, *pid, signal::KILL);
            }
            killed.extend(fresh);
        }
    }

    /// The main process of a run was reaped.
    pub(super) fn buried(&mut self, run: Run) {
        let Some(process) = self.supervisor.process_of(run) else { return };
        if let Some(cluster) = self.clusters.get(&process.app) {
            cluster.gone(run);
        }
        self.note_pid(process.id);
    }

    /// Keeps the pid file of a process true: it names the main process that answers for it, or does not exist.
    fn note_pid(&self, id: ProcessId) {
        let Some(process) = self.supervisor.process(id) else { return };
        let Some(app) = self.supervisor.app(process.app) else { return };
        let (_, path) = environment::files(&self.shell.home, &app.spec, process);
        self.shell.pid_files.note(path, process.current_run().and_then(|run| self.living.main(run)));
    }

    // Limits.

    /// True if memory is to be measured.
    pub(super) fn has_limits(&self) -> bool {
        self.supervisor.apps().any(|app| app.spec.restart.max_memory.is_some())
    }

    /// Measures the trees of all runs.
    pub(super) fn sample(&mut self) {
        let roots: Vec<(Run, i32)> = self.living.running().map(|(run, live)| (run, live.pid)).collect();
        let usage = proc::usage(&roots.iter().map(|(_, pid)| *pid).collect::<Vec<_>>());
        for (run, pid) in roots {
            let memory = usage.get(&pid).map_or(0, |(_, resident)| *resident);
            self.input(Input::Sampled { run, memory });
        }
    }

    // Log files.

    pub(super) fn flush_logs(&mut self, target: &[Selector], reply: Reply) {
        let ids = match self.supervisor.select(target) {
            Ok(ids) => ids,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let mut report = Report::default();
        let mut paths: Vec<PathBuf> = Vec::new();
        for process in ids.iter().filter_map(|id| self.supervisor.process(*id)) {
            let Some(app) = self.supervisor.app(process.app) else { continue };
            let (logs, _) = environment::files(&self.shell.home, &app.spec, process);
            paths.extend(logs.out.into_iter().chain(logs.err));
            let (name, verb) = (app.spec.name.clone(), "flush".to_owned());
            report.lines.push(ReportLine { id: process.id.0, name, verb, verdict: Verdict::Done });
        }
        let logs = self.shell.logs.clone();
        // Ends when the files are flushed; a client that left does not matter.
        tokio::task::spawn_local(async move {
            let flushed = logs.flush(&paths).await;
            let _ = reply.send(flushed.map(|()| report).map_err(|(path, error)| Refusal::Failed {
                doing: format!("truncating {}", path.display()),
                error: error.to_string(),
            }));
        });
    }

    pub(super) fn reopen_logs(&mut self, reply: Option<Reply>) {
        let logs = self.shell.logs.clone();
        tokio::task::spawn_local(async move {
            logs.reopen_all().await;
            if let Some(reply) = reply {
                let _ = reply.send(Ok(Report::default()));
            }
        });
    }
}

/// The names under which the ends of a run's output pipes are kept.
pub(super) fn output_names(run: Run) -> [String; 2] {
    ["out", "err"].map(|stream| format!("log/{}/{stream}", run.0))
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
            if spec.mode == ExecMode::Cluster && interpreter::is_node(interpreter) {
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
    let path = own.get("PATH").or_else(|| base.get("PATH")).map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    program::find(interpreter, path, cwd).ok_or_else(|| StartFailure {
        error: format!("the interpreter `{interpreter}` is not in the app's PATH ({path})"),
        permanent: true,
    })
}
