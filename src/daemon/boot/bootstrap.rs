//! Makes a God that can run from what it inherits.
//!
//! What God inherits is open in the table of descriptors that it shares with the keeper: a file that it closes is closed
//! for every God that follows. So a God that cannot start unshares that table before it drops anything ([`Needed`]); the
//! keeper tries again.

use std::fmt;
use std::io;
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::PoisonError;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::super::clusters::Clusters;
use super::super::disk::dump;
use super::super::disk::dump::KnownList;
use super::super::disk::history::History;
use super::super::disk::home_dir::at;
use super::super::disk::journal::Journal;
use super::super::disk::pid_files::PidFiles;
use super::super::disk::warnings::Warnings;
use super::super::event_sources::{Channels, Sources};
use super::super::god::{God, Parts};
use super::super::launch::Launcher;
use super::super::launch::bind_watch::BindWatches;
use super::super::rpc::audit::Peer;
use super::super::rpc::bus::Bus;
use super::super::rpc::server;
use super::super::rpc::server::Acceptor;
use super::super::rpc::service::Service;
use super::super::runs::Runs;
use super::super::runs::health::HealthChecks;
use super::super::runs::notify::{self, Notifications};
use super::super::runs::stderr_rate::StderrRates;
use super::super::runs::table::RunTable;
use super::super::upgrade;
use super::super::upgrade::Upgrade;
use super::adopt;
use super::recover;
use super::recover::RecoveredState;
use super::sockets;
use super::sockets::SocketGuard;
use crate::cluster::Persistence;
use crate::keeper::exits::Inbox;
use crate::keeper::{FdSlot, Inherited, Ledger, UpgradeProbation, Word};
use crate::logs::LogFiles;
use crate::os::cgroup::Cgroups;
use crate::os::clock;
use crate::os::fs::files;
use crate::os::process::{clone_files, identity, pidfd};
use crate::os::thread_pool::Threads;
use crate::paths::Home;
use crate::protocol::{DaemonWarnings, Hello, VERSION};

/// Commands of clients that may wait for God. When there are as many, the RPC handlers wait.
const COMMANDS_WAITING: usize = 128;
/// Findings of health checks that may wait for God. When there are as many, the checks wait.
const FINDINGS_WAITING: usize = 64;
/// Threads for work on files at most. Each that hangs on a dead disk leaves one fewer for other work.
const FILE_THREADS: usize = 512;

/// Key of the record with the lineage.
const LINEAGE: &str = "lineage";

/// A God and what [`super::super::run`] needs beside it.
pub(crate) struct Bootstrapped {
    /// God, with what it took over.
    pub god: God,
    /// The sources of the events that it handles.
    pub sources: Sources,
    /// Answers the RPC requests.
    pub service: Service,
    /// Accepts RPC clients.
    pub rpc: Acceptor,
    /// Accepts subscribers to events.
    pub events: Acceptor,
    /// Keeps both sockets in place until it is dropped.
    pub socket_guard: SocketGuard,
    /// True if this God follows another.
    pub is_successor: bool,
}

/// For a step without which God cannot start.
pub(crate) trait Needed<T> {
    /// The error as a sentence. After an error this process no longer shares its open files: it closes all of them when it
    /// exits, and the next God needs those that it shared with the keeper.
    fn needed(self, doing: impl fmt::Display) -> Result<T, String>;
}

impl<T, E: fmt::Display> Needed<T> for Result<T, E> {
    fn needed(self, doing: impl fmt::Display) -> Result<T, String> {
        self.map_err(|error| {
            clone_files::unshare();
            format!("{doing}: {error}")
        })
    }
}

/// Takes over what an earlier God left and makes the rest. With `foreground`, SIGHUP ends the daemon. Must be called inside
/// the runtime's `LocalSet`.
pub(crate) fn bootstrap(home: &Home, foreground: bool, mut inherited: Inherited) -> Result<Bootstrapped, String> {
    adopt::inherit(home, &mut inherited);
    let is_successor = inherited.previous.is_some();
    let supervisor = upgrade::read(&inherited.records).needed("going on after the daemon before")?;
    let lineage = match inherited.records.get(LINEAGE) {
        Some(lineage) => lineage.clone(),
        None => recover::new_lineage().needed("naming this daemon")?,
    };
    let ledger = start_ledger(&inherited, &lineage).needed("preparing the ledger")?;
    let rpc = socket(&mut inherited, &ledger, "rpc", &home.rpc_sock()).needed("opening the socket")?;
    let events = socket(&mut inherited, &ledger, "pub", &home.pub_sock()).needed("opening the socket")?;
    let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING);
    let (notices, notices_in) = mpsc::unbounded_channel();
    let (ends, ends_in) = mpsc::unbounded_channel();
    let (notifications, notifications_in) = notify::channel();
    let (findings, findings_in) = mpsc::channel(FINDINGS_WAITING);
    let exits = exit_inbox(&mut inherited).needed("receiving exits")?;
    let threads = Threads::start("files", FILE_THREADS).needed("preparing the daemon")?;
    let shared_memory = Rc::clone(&inherited.shared_memory);
    let journal =
        Journal::start(home, &ledger, &lineage, !inherited.records.is_empty()).needed("preparing the daemon")?;
    let saved = read_saved_list(&threads, home.clone());
    let persistence =
        Persistence { ledger: ledger.clone(), shared_memory: shared_memory.clone(), tracer: inherited.tracer.clone() };
    let parts = Parts {
        ledger: ledger.clone(),
        shared_memory: shared_memory.clone(),
        launcher: launcher(home, &inherited, &ledger, &threads).needed("preparing the daemon")?,
        runs: Runs {
            table: RunTable::new(inherited.keeper, lineage.clone(), ledger.clone(), ends),
            notifications: Notifications::new(notifications, ledger.clone()),
            checks: HealthChecks::new(findings),
            stderr_rates: StderrRates::new(),
        },
        clusters: Clusters::new(persistence, notices),
        bus: Bus::with_history(History::start(home.history()).needed("preparing the daemon")?),
        warnings: Warnings::new(journal, saved.clone()),
        upgrade: Upgrade::new(shared_memory.clone(), inherited.keeper),
    };
    let service = Service {
        god: commands,
        hello: hello(home, &inherited),
        home: home.clone(),
        saved,
        lineage,
        threads,
        peer: Peer::ourselves(),
    };
    let (socket_guard, rpc, events) =
        sockets::keep(home.clone(), inherited.keeper, is_successor, (ledger, shared_memory.clone()), (rpc, events))
            .needed("watching the home")?;
    let orphaned = watch_keeper(inherited.keeper).needed("watching the keeper")?;
    let mut god = God::new(parts);
    let previous = inherited.previous;
    if let Some(previous) = previous {
        let Inherited { records, files, connections, other_sockets, .. } = inherited;
        god.recover(supervisor, RecoveredState { records, files, connections, other_sockets, previous }, &exits);
    }
    god.begin(previous);
    shared_memory.set(Word::Ready, 1);
    let channels = Channels {
        commands: commands_in,
        notices: notices_in,
        notifications: notifications_in,
        findings: findings_in,
        exits,
        ends: ends_in,
        orphaned,
    };
    let sources = Sources::new(channels, foreground).needed("handling signals")?;
    Ok(Bootstrapped { god, sources, service, rpc, events, socket_guard, is_successor })
}

fn hello(home: &Home, inherited: &Inherited) -> Hello {
    Hello {
        version: VERSION.to_owned(),
        pid: inherited.keeper,
        god: identity::pid(),
        generation: inherited.shared_memory.get(Word::Generation),
        started_at: clock::epoch_ms(),
        home: home.root().to_owned(),
        warnings: DaemonWarnings::default(),
    }
}

fn launcher(home: &Home, inherited: &Inherited, ledger: &Ledger, threads: &Threads) -> io::Result<Launcher> {
    let cgroups = Cgroups::discover(home.root());
    tracing::info!("control groups: {}", cgroups.allowance());
    let limit = |word| inherited.shared_memory.get(word);
    Ok(Launcher {
        home: home.clone(),
        user: identity::user_name(),
        file_limit: (limit(Word::FileLimitSoft), limit(Word::FileLimitHard)),
        cgroups,
        logs: LogFiles::new(threads.clone())?,
        pid_files: PidFiles::new()?,
        ledger: ledger.clone(),
        bind_watches: BindWatches::new(inherited.tracer.clone(), ledger.clone()),
    })
}

/// What is known of the saved list. A thread reads it; until then nothing is known.
fn read_saved_list(threads: &Threads, home: Home) -> KnownList {
    let known = KnownList::default();
    let list = known.clone();
    // Ends when the file is read; nothing waits for it.
    threads.run(move || {
        let found = dump::saved(&home);
        let mut known = list.lock().unwrap_or_else(PoisonError::into_inner);
        // A client may have saved meanwhile.
        *known = known.or(found);
    });
    known
}

/// Makes the ledger of this God from the records of the one before, whose file is closed then. During a probation that file
/// stays open, for the program from before.
fn start_ledger(inherited: &Inherited, lineage: &str) -> io::Result<Ledger> {
    let before = inherited.shared_memory.fd_slot(FdSlot::Ledger);
    let ledger = Ledger::start(Rc::clone(&inherited.shared_memory), &inherited.records)?;
    let on_probation = inherited.previous.is_some_and(|previous| previous.probation == UpgradeProbation::Running);
    if on_probation && inherited.shared_memory.fd_slot(FdSlot::LedgerBefore).is_none() {
        inherited.shared_memory.set_fd_slot(FdSlot::LedgerBefore, before);
    } else {
        drop(before.and_then(files::take));
    }
    ledger.put(LINEAGE, lineage);
    ledger.commit();
    Ok(ledger)
}

/// God's end of the channel by which the keeper reports exits. It is a duplicate: the slot itself stays open for the next
/// God.
fn exit_inbox(inherited: &mut Inherited) -> io::Result<Inbox> {
    let exits = inherited.exits.take().ok_or(io::ErrorKind::NotFound)?;
    let ours = exits.try_clone();
    let _ = exits.into_raw_fd();
    Inbox::new(ours?)
}

/// A socket of the daemon: the one that an earlier God kept, to which clients could connect meanwhile, or a new one.
fn socket(inherited: &mut Inherited, ledger: &Ledger, name: &str, path: &Path) -> Result<UnixListener, String> {
    match inherited.files.remove(name) {
        Some(kept) => server::resume(kept).map_err(at(path)),
        None => {
            let listener = server::bind(path).and_then(UnixListener::from_std).map_err(at(path))?;
            ledger.keep(name, &listener);
            Ok(listener)
        }
    }
}

/// Completes when the keeper has died.
fn watch_keeper(keeper: i32) -> io::Result<oneshot::Receiver<()>> {
    let (died, orphaned) = oneshot::channel();
    let keeper = pidfd::watch(pidfd::open(keeper)?)?;
    // Ends with the keeper, or with this process.
    tokio::task::spawn_local(async move {
        if keeper.readable().await.is_ok() {
            let _ = died.send(());
        }
    });
    Ok(orphaned)
}
