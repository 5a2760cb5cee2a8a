//! God's hands: the daemon process around the pure supervisor. Read [`run`] first.
//!
//! One thread runs everything that decides or dispatches: the God task, the RPC, the clusters. It must be the process's
//! first, which is the one that orphans come to. Only work on files goes to a pool of threads that come and go, so a
//! slow disk stops nobody.

mod bus;
pub mod desired;
pub mod dump;
mod effect;
mod environment;
mod god;
pub mod journal;
mod live;
mod log;
mod pid_files;
mod server;
mod service;
mod view;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::PoisonError;

use tarpc::context::Context;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::cluster;
use crate::keeper::{Ledger, Records, Region};
use crate::logs::LogFiles;
use crate::os::{clock, detach, identity};
use crate::paths::Home;
use crate::protocol::{Daemon, Hello, Standing, VERSION};
use god::{God, Saved, Shell, Sources};
use journal::Journal;
use pid_files::PidFiles;
use service::Service;

/// Commands that may wait for God before those who send more have to wait.
const COMMANDS_WAITING: usize = 128;
/// Threads for work on files. One that hangs on a dead disk is lost to the others.
const FILE_THREADS: usize = 512;

/// What Node workers load, in the home's folder for it; the name changes with the content.
const PRELOAD_FILE: &str = concat!("drain-", env!("CARGO_PKG_VERSION"), ".cjs");

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// Whose daemon it is.
    pub home: Home,
    /// Where to say `ok`, or what is wrong, once it is known. Closed either way.
    pub readiness: Option<OwnedFd>,
    /// In a terminal or under an init system: a hang-up ends it.
    pub foreground: bool,
    /// Bring back the saved list before saying `ok`.
    pub resurrect: bool,
}

/// Runs the daemon until it is told to end. The error is a sentence; it has also been written to the readiness pipe.
pub fn run(mut options: Options) -> Result<(), String> {
    let mut readiness = options.readiness.take().map(File::from);
    let outcome = prepare(&options.home).and_then(|_lock| serve(&options, &mut readiness));
    if let Err(error) = &outcome {
        say(&mut readiness, error);
    }
    outcome
}

/// Tells who started us, once; they may have given up waiting.
fn say(readiness: &mut Option<File>, text: &str) {
    if let Some(mut pipe) = readiness.take() {
        let _ = writeln!(pipe, "{text}");
    }
}

/// Everything that must hold before we are the daemon of this home. The lock is held as long as the file is open.
fn prepare(home: &Home) -> Result<File, String> {
    let root = home.root();
    make_private(root).map_err(at(root))?;
    for folder in [home.logs(), home.pids(), home.preload()] {
        make_private(&folder).map_err(at(&folder))?;
    }
    let pid_file = home.pid_file();
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&pid_file)
        .map_err(at(&pid_file))?;
    if lock.try_lock().is_err() {
        let pid = fs::read_to_string(&pid_file).unwrap_or_default();
        return Err(format!("a daemon (pid {}) runs in {} already", pid.trim(), root.display()));
    }
    lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes())).map_err(at(&pid_file))?;
    log::start(&home.daemon_log()).map_err(at(&home.daemon_log()))?;
    detach::seal_inherited().map_err(|error| format!("sealing inherited files: {error}"))?;
    identity::survive_file_size_limit().map_err(|error| format!("ignoring a signal: {error}"))?;
    identity::adopt_orphans().map_err(|error| format!("becoming the parent of orphans: {error}"))?;
    Ok(lock)
}

/// Makes a folder that only its owner can enter, or makes it so.
fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let known = fs::metadata(folder)?;
    if known.uid() != identity::uid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn serve(options: &Options, readiness: &mut Option<File>) -> Result<(), String> {
    let Options { home, foreground, resurrect, .. } = options;
    let (foreground, resurrect) = (*foreground, *resurrect);
    let file_limit = identity::raise_file_limit().map_err(|error| format!("raising the file limit: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    let outcome = LocalSet::new().block_on(&runtime, async {
        let rpc = server::bind(&home.rpc_sock()).map_err(at(&home.rpc_sock()))?;
        let events = server::bind(&home.pub_sock()).map_err(at(&home.pub_sock()))?;
        install_preload(home).map_err(at(&home.preload()))?;
        let logs = LogFiles::new().map_err(|error| format!("preparing the log files: {error}"))?;
        let pid_files = PidFiles::new().map_err(|error| format!("preparing the pid files: {error}"))?;
        let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING);
        let (notices, notices_in) = mpsc::unbounded_channel();
        let sources =
            Sources::new(commands_in, notices_in, foreground).map_err(|error| format!("handling signals: {error}"))?;
        let hello = Hello {
            version: VERSION.to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            started_at: clock::epoch_ms(),
            home: home.root().to_owned(),
            standing: Standing::default(),
        };
        let region = Region::new().map_err(|error| format!("making memory for the state: {error}"))?;
        let inherited = Records::new();
        let ledger =
            Ledger::start(Rc::new(region), &inherited).map_err(|error| format!("starting the ledger: {error}"))?;
        let journal =
            Journal::start(home, &ledger, &inherited).map_err(|error| format!("starting the journal: {error}"))?;
        let saved = Saved::default();
        know_saved(home.clone(), saved.clone());
        let lineage = journal.lineage().to_owned();
        let service =
            Service { god: commands.clone(), hello: hello.clone(), home: home.clone(), saved: saved.clone(), lineage };
        // Both serve as long as the runtime lives; God decides when that is over.
        tokio::spawn(server::serve_rpc(rpc, service.clone()));
        tokio::spawn(server::serve_events(events, commands));
        let user = identity::user_name();
        let shell = Shell { home: home.clone(), user, file_limit, notices, logs, pid_files, ledger, journal, saved };
        let god = God::new(hello.pid, shell);
        let god = tokio::task::spawn_local(god.run(sources));
        tracing::info!("pmr {VERSION} started in {}", home.root().display());
        if resurrect && let Err(refusal) = service.resurrect(Context::current()).await {
            tracing::info!("nothing was brought back: {refusal}");
        }
        say(readiness, "ok");
        // Without an init system that waits for it there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let outcome = god.await.map_err(|error| format!("the God task failed: {error}"));
        for path in [home.rpc_sock(), home.pub_sock(), home.pid_file()] {
            let _ = fs::remove_file(path);
        }
        tracing::info!("ended");
        outcome
    });
    // A write that hangs on a dead disk must not keep us.
    runtime.shutdown_background();
    outcome
}

/// Finds out what was saved, beside everything else.
fn know_saved(home: Home, saved: Saved) {
    // Ends when the file is read; nobody waits for it.
    tokio::task::spawn_blocking(move || {
        let found = dump::saved(&home);
        let mut saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have saved meanwhile.
        *saved = saved.or(found);
    });
}

/// Puts what Node workers load where they can: into the home, under a name of this version.
fn install_preload(home: &Home) -> io::Result<()> {
    let path = home.preload().join(PRELOAD_FILE);
    if fs::read(&path).is_ok_and(|there| there == cluster::PRELOAD.as_bytes()) {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(home.preload())?;
    file.write_all(cluster::PRELOAD.as_bytes())?;
    file.persist(&path)?;
    Ok(())
}

fn at(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}
