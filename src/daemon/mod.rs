//! God's hands: the daemon process around the pure supervisor. Read [`run`] first.
//!
//! One thread runs everything that decides or dispatches: the God task, the RPC, the clusters. Only work on files goes to
//! a pool of threads that come and go, so a slow disk stops nobody. The process itself is one of several, one after the
//! other, that the [`crate::keeper`] starts.

mod adopt;
mod bus;
mod confine;
pub mod desired;
pub mod dump;
mod effect;
mod environment;
mod god;
pub mod journal;
mod live;
mod log;
mod pid_files;
mod revive;
mod server;
mod service;
mod sources;
pub mod upgrade;
mod view;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::PoisonError;

use tarpc::context::Context;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::cluster::{self, Memory};
use crate::keeper::exits::Inbox;
use crate::keeper::{Estate, Inheritance, Ledger, Pillar, Trial, Word};
use crate::logs::LogFiles;
use crate::os::cgroup::Cgroups;
use crate::os::{clock, files, identity, pidfd};
use crate::paths::Home;
use crate::protocol::{Daemon, Hello, Standing, VERSION};
use dump::Saved;
use god::{God, Shell};
use journal::Journal;
use pid_files::PidFiles;
use revive::Legacy;
use service::Service;
use sources::{Channels, Sources};

/// Commands that may wait for God before those who send more have to wait.
const COMMANDS_WAITING: usize = 128;
/// Threads for work on files. One that hangs on a dead disk is lost to the others.
const FILE_THREADS: usize = 512;

/// Key of the record with the name of this line of daemons.
const LINEAGE: &str = "lineage";
/// What Node workers load, in the home's folder for it; the name changes with the content.
const PRELOAD_FILE: &str = concat!("drain-", env!("CARGO_PKG_VERSION"), ".cjs");

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose daemon it is.
    pub home: Home,
    /// In a terminal or under an init system: a hang-up ends it.
    pub foreground: bool,
    /// Bring back the saved list before saying `ok`.
    pub resurrect: bool,
}

/// Makes this process the one daemon of its home, before there is a God. The error is a sentence; it has also been
/// written to `readiness`.
pub fn found(home: &Home, readiness: Option<OwnedFd>) -> Result<Estate, String> {
    match lock(home) {
        Ok(lock) => Estate::found(lock, readiness).map_err(|error| format!("preparing the keeper: {error}")),
        Err(error) => {
            say(&mut readiness.map(File::from), &error);
            Err(error)
        }
    }
}

/// God's life, in a process of his own: until he is told to end. The error is a sentence; it has also been written to the
/// readiness pipe, if there is one.
pub fn run(options: &Options, mut inheritance: Inheritance) -> Result<(), String> {
    let mut readiness = inheritance.readiness.take().map(File::from);
    let outcome = prepare(&options.home).and_then(|()| serve(options, inheritance, &mut readiness));
    if let Err(error) = &outcome {
        tracing::error!("the daemon ends: {error}");
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

/// Locks the pid file, which makes us the daemon of this home as long as it is open.
fn lock(home: &Home) -> Result<File, String> {
    let root = home.root();
    make_private(root).map_err(at(root))?;
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
    Ok(lock)
}

/// Everything that must hold before God can live.
fn prepare(home: &Home) -> Result<(), String> {
    for folder in [home.root().to_owned(), home.logs(), home.pids(), home.preload()] {
        make_private(&folder).map_err(at(&folder))?;
    }
    log::start(&home.daemon_log()).map_err(at(&home.daemon_log()))?;
    identity::survive_file_size_limit().map_err(|error| format!("ignoring a signal: {error}"))
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

fn serve(options: &Options, inheritance: Inheritance, readiness: &mut Option<File>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    let outcome = LocalSet::new().block_on(&runtime, live(options, inheritance, readiness));
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

async fn live(options: &Options, mut legacy: Inheritance, readiness: &mut Option<File>) -> Result<(), String> {
    let home = &options.home;
    adopt::inherit(home, &mut legacy);
    let file_limit = (legacy.region.get(Word::FileLimitSoft), legacy.region.get(Word::FileLimitHard));
    let lineage = match legacy.records.get(LINEAGE) {
        Some(lineage) => lineage.clone(),
        None => revive::new_lineage().map_err(|error| format!("naming this daemon: {error}"))?,
    };
    let ledger = start_ledger(&legacy, &lineage).map_err(|error| format!("preparing the ledger: {error}"))?;
    let rpc = socket(&mut legacy, &ledger, "rpc", &home.rpc_sock())?;
    let events = socket(&mut legacy, &ledger, "pub", &home.pub_sock())?;
    if let Err(error) = install_preload(&home.preload()) {
        tolerate(&legacy, &at(&home.preload())(error))?;
    }
    let logs = LogFiles::new().map_err(|error| format!("preparing the log files: {error}"))?;
    let pid_files = PidFiles::new().map_err(|error| format!("preparing the pid files: {error}"))?;
    let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING);
    let (notices, notices_in) = mpsc::unbounded_channel();
    let (ends, ends_in) = mpsc::unbounded_channel();
    let exits = Inbox::new(legacy.exits).map_err(|error| format!("hearing of exits: {error}"))?;
    let (region, keeper) = (Rc::clone(&legacy.region), legacy.keeper);
    let hello = Hello {
        version: VERSION.to_owned(),
        pid: keeper,
        god: i32::try_from(std::process::id()).unwrap_or_default(),
        generation: region.get(Word::Generation),
        started_at: clock::epoch_ms(),
        home: home.root().to_owned(),
        standing: Standing::default(),
    };
    let journal = Journal::start(home, &ledger, &lineage, !legacy.records.is_empty())
        .map_err(|error| format!("starting the journal: {error}"))?;
    let saved = Saved::default();
    know_saved(home.clone(), saved.clone());
    let (god, home_of) = (commands.clone(), home.clone());
    let service = Service { god, hello, home: home_of, saved: saved.clone(), lineage: lineage.clone() };
    let user = identity::user_name();
    let memory = Memory { ledger, region };
    let cgroups = Cgroups::discover(home.root());
    tracing::info!("{}", cgroups.describe());
    let shell = Shell {
        home: home.clone(),
        user,
        file_limit,
        notices,
        logs,
        pid_files,
        memory,
        keeper,
        cgroups,
        journal,
        saved,
    };
    let mut god = God::new(lineage, ends, shell);
    let previous = legacy.previous;
    if let Some(previous) = previous {
        let Inheritance { records, files, connections, rest, .. } = legacy;
        let legacy = Legacy { records, files, connections, rest, previous };
        god.revive(legacy, &exits).map_err(|error| format!("going on after the daemon before: {error}"))?;
    }
    // Empty groups of an earlier life go when they are let go of; those with processes stay.
    drop(god.shell.cgroups.leftovers());
    god.judge(previous);
    god.shell.memory.region.set(Word::Ready, 1);
    let orphaned = watch_keeper(keeper).map_err(|error| format!("watching the keeper: {error}"))?;
    let channels = Channels { commands: commands_in, notices: notices_in, exits, ends: ends_in, orphaned };
    let sources = Sources::new(channels, options.foreground).map_err(|error| format!("handling signals: {error}"))?;
    // Both serve as long as the runtime lives; God decides when that is over.
    tokio::spawn(server::serve_rpc(rpc, service.clone()));
    tokio::spawn(server::serve_events(events, commands));
    let god = tokio::task::spawn_local(god.run(sources));
    tracing::info!("pmr {VERSION} started in {}", home.root().display());
    if previous.is_none()
        && options.resurrect
        && let Err(refusal) = service.resurrect(Context::current()).await
    {
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
}

/// Makes the ledger of this God from the one before, whose file is closed.
fn start_ledger(legacy: &Inheritance, lineage: &str) -> io::Result<Ledger> {
    let before = legacy.region.pillar(Pillar::Ledger);
    let ledger = Ledger::start(Rc::clone(&legacy.region), &legacy.records)?;
    let on_trial = legacy.previous.is_some_and(|previous| previous.trial == Trial::Running);
    if on_trial && legacy.region.pillar(Pillar::LedgerBefore).is_none() {
        legacy.region.set_pillar(Pillar::LedgerBefore, before);
    } else {
        drop(before.and_then(files::take));
    }
    ledger.put(LINEAGE, lineage);
    ledger.commit();
    Ok(ledger)
}

/// One of our sockets: the one that was kept, which has taken calls all the while, or a new one.
fn socket(legacy: &mut Inheritance, ledger: &Ledger, name: &str, path: &Path) -> Result<UnixListener, String> {
    match legacy.files.remove(name) {
        Some(kept) => server::resume(kept).map_err(at(path)),
        None => {
            let listener = server::bind(path).map_err(at(path))?;
            ledger.keep(name, &listener);
            Ok(listener)
        }
    }
}

/// What would keep a first daemon from starting must not keep one that has apps to look after.
fn tolerate(legacy: &Inheritance, trouble: &str) -> Result<(), String> {
    if legacy.previous.is_none() {
        return Err(trouble.to_owned());
    }
    tracing::error!("{trouble}: going on without");
    Ok(())
}

/// Tells when the keeper has died.
fn watch_keeper(keeper: i32) -> io::Result<oneshot::Receiver<()>> {
    let (told, orphaned) = oneshot::channel();
    let keeper = pidfd::watch(pidfd::open(keeper)?)?;
    // Ends with the keeper, or with us.
    tokio::task::spawn_local(async move {
        if keeper.readable().await.is_ok() {
            let _ = told.send(());
        }
    });
    Ok(orphaned)
}

/// Puts what Node workers load into a folder, under a name of this version, and returns its path.
fn install_preload(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(PRELOAD_FILE);
    if fs::read(&path).is_ok_and(|there| there == cluster::PRELOAD.as_bytes()) {
        return Ok(path);
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(cluster::PRELOAD.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(&path)?;
    Ok(path)
}

/// The same for workers of other users, who cannot enter the home: in a folder that all can read and only root, for
/// whom alone there are such workers, can change.
fn install_public_preload() -> io::Result<PathBuf> {
    let folder = Path::new("/run/pmr");
    fs::DirBuilder::new().recursive(true).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    install_preload(folder)
}

fn at(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}
