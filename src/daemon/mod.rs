//! God's hands: the daemon process around the pure supervisor. Read [`run`] first.
//!
//! One thread runs everything that decides or dispatches: the God task, the RPC, the clusters. Only work on files goes to
//! a pool of threads that come and go, so a slow disk stops nobody. The process itself is one of several, one after the
//! other, that the [`crate::keeper`] starts.

mod bus;
mod confine;
mod doors;
mod dump;
mod effect;
mod environment;
mod god;
mod live;
mod log;
mod pid_files;
mod premises;
mod revive;
mod server;
mod service;
pub mod upgrade;
mod view;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use tarpc::context::Context;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::cluster::Memory;
use crate::keeper::exits::Inbox;
use crate::keeper::{Estate, Inheritance, Ledger, Pillar, Trial, Word};
use crate::logs::LogFiles;
use crate::os::cgroup::Cgroups;
use crate::os::threads::Threads;
use crate::os::{clock, files, identity, pidfd, twin};
use crate::paths::Home;
use crate::protocol::{Daemon, Hello, VERSION};
use god::{Channels, Fate, God, Shell, Sources};
use pid_files::PidFiles;
use premises::at;
use revive::Legacy;
use service::Service;

/// Commands that may wait for God before those who send more have to wait.
const COMMANDS_WAITING: usize = 128;
/// Threads for work on files. One that hangs on a dead disk is lost to the others.
const FILE_THREADS: usize = 512;

/// Files left for the next God to begin with.
const FILES_SPARED: u64 = 64;

/// Key of the record with the name of this line of daemons.
const LINEAGE: &str = "lineage";

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
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    match premises::lock(home, pid) {
        Ok(lock) => Estate::found(lock, readiness).map_err(|error| format!("preparing the keeper: {error}")),
        Err(error) => {
            say(&mut readiness.map(File::from), &error);
            Err(error)
        }
    }
}

/// Why a God cannot live. From the moment it is known he has his open files to himself: on his way out he closes all of
/// them, and the next God needs what they share with the keeper.
struct Doom(String);

impl From<String> for Doom {
    fn from(why: String) -> Doom {
        twin::part();
        Doom(why)
    }
}

/// God's life, in a process of his own: until he is told to end. The error is a sentence; it has also been written to the
/// readiness pipe, if there is one.
pub fn run(options: &Options, mut inheritance: Inheritance) -> Result<(), String> {
    let mut readiness = inheritance.readiness.take().map(File::from);
    let outcome = prepare(&options.home, inheritance.previous.is_none())
        .map_err(Doom::from)
        .and_then(|()| serve(options, inheritance, &mut readiness));
    outcome.map_err(|Doom(error)| {
        tracing::error!("the daemon ends: {error}");
        say(&mut readiness, &error);
        error
    })
}

/// Tells who started us, once; they may have given up waiting.
fn say(readiness: &mut Option<File>, text: &str) {
    if let Some(mut pipe) = readiness.take() {
        let _ = writeln!(pipe, "{text}");
    }
}

/// Everything that must hold before God can live. What would keep a first daemon from starting must not keep one that
/// has apps to look after: for him the home is seen to later, and his log is written when it can be.
fn prepare(home: &Home, first: bool) -> Result<(), String> {
    let path = home.daemon_log();
    if first {
        premises::furnish(home)?;
        log::check(&path).map_err(at(&path))?;
    }
    log::start(&path).map_err(|error| format!("starting the log: {error}"))?;
    identity::survive_file_size_limit().map_err(|error| format!("ignoring a signal: {error}"))
}

fn serve(options: &Options, inheritance: Inheritance, readiness: &mut Option<File>) -> Result<(), Doom> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the runtime: {error}"))?;
    let outcome = LocalSet::new().block_on(&runtime, live(options, inheritance, readiness));
    // A write that hangs on a dead disk must not keep us.
    runtime.shutdown_background();
    outcome
}

async fn live(options: &Options, mut legacy: Inheritance, readiness: &mut Option<File>) -> Result<(), Doom> {
    let home = &options.home;
    let file_limit = (legacy.region.get(Word::FileLimitSoft), legacy.region.get(Word::FileLimitHard));
    let lineage = match legacy.records.get(LINEAGE) {
        Some(lineage) => lineage.clone(),
        None => revive::new_lineage().map_err(|error| format!("naming this daemon: {error}"))?,
    };
    let ledger = start_ledger(&legacy, &lineage).map_err(|error| format!("preparing the ledger: {error}"))?;
    let rpc = socket(&mut legacy, &ledger, "rpc", &home.rpc_sock())?;
    let events = socket(&mut legacy, &ledger, "pub", &home.pub_sock())?;
    let threads = Threads::start("files", FILE_THREADS).map_err(|error| format!("preparing threads: {error}"))?;
    let logs = LogFiles::new(threads.clone()).map_err(|error| format!("preparing the log files: {error}"))?;
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
    };
    let service = Service { god: commands.clone(), hello, home: home.clone(), threads };
    let user = identity::user_name();
    let memory = Memory { ledger, region };
    let cgroups = Cgroups::discover(home.root());
    tracing::info!("{}", cgroups.describe());
    let shell = Shell { home: home.clone(), user, file_limit, notices, logs, pid_files, memory, keeper, cgroups };
    let mut god = God::new(lineage, ends, shell);
    // Dropped first should this go wrong.
    let _fate = Fate;
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
    let shared = (god.shell.memory.ledger.clone(), god.shell.memory.region.clone());
    let (attendance, rpc, events) = doors::attend(home.clone(), keeper, previous.is_some(), shared, (rpc, events))
        .map_err(|error| format!("watching the home: {error}"))?;
    let orphaned = watch_keeper(keeper).map_err(|error| format!("watching the keeper: {error}"))?;
    let channels = Channels { commands: commands_in, notices: notices_in, exits, ends: ends_in, orphaned };
    let sources = Sources::new(channels, options.foreground).map_err(|error| format!("handling signals: {error}"))?;
    let own_files = identity::spare_files(FILES_SPARED).map_err(|error| format!("limiting our files: {error}"))?;
    // Both serve as long as the runtime lives; God decides when that is over.
    tokio::spawn(server::serve_rpc(rpc, service.clone(), own_files));
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
    drop(attendance);
    for path in [home.rpc_sock(), home.pub_sock(), home.pid_file()] {
        let _ = fs::remove_file(path);
    }
    tracing::info!("ended");
    Ok(outcome?)
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
            let listener = server::bind(path).and_then(UnixListener::from_std).map_err(at(path))?;
            ledger.keep(name, &listener);
            Ok(listener)
        }
    }
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
