//! From what a God inherits to a God who lives.
//!
//! What he inherits is open in the table he shares with the keeper: if he let go of it, it would be closed for all who come
//! after him. So one who cannot begin parts from that table before he lets go of anything ([`Needed`]); the keeper tries
//! again.

use std::fmt;
use std::io;
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::PoisonError;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::super::disk::dump;
use super::super::disk::dump::Saved;
use super::super::disk::history::History;
use super::super::disk::journal::Journal;
use super::super::disk::pid_files::PidFiles;
use super::super::event_sources::{Channels, Sources};
use super::super::god::{God, Resources};
use super::super::rpc::audit::Peer;
use super::super::rpc::server;
use super::super::rpc::server::Acceptor;
use super::super::rpc::service::Service;
use super::super::runs::health::HealthChecks;
use super::super::runs::notify;
use super::super::{COMMANDS_WAITING, FILE_THREADS, LINEAGE, Options, upgrade};
use super::adopt;
use super::home_dir::at;
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
/// So many findings of health checks wait for God before the checks do.
const FINDINGS_WAITING: usize = 64;

/// A God and all he needs.
pub struct Bootstrapped {
    /// He.
    pub god: God,
    /// What he listens to.
    pub sources: Sources,
    /// How others talk to him.
    pub service: Service,
    /// Where they come in.
    pub rpc: Acceptor,
    /// Where those come in who want to hear of everything.
    pub events: Acceptor,
    /// Keeps both open.
    pub socket_guard: SocketGuard,
    /// True if there was a God before him.
    pub is_successor: bool,
}

/// What a God cannot do without.
pub trait Needed<T> {
    /// The error as a sentence. From then on he has his open files to himself: on his way out he closes all of them, and
    /// the next God needs what they shared with the keeper.
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

/// Takes over what there is and makes the rest. Must be called inside the runtime's `LocalSet`.
pub fn bootstrap(options: &Options, mut legacy: Inherited) -> Result<Bootstrapped, String> {
    let home = &options.home;
    adopt::inherit(home, &mut legacy);
    let is_successor = legacy.previous.is_some();
    let supervisor = upgrade::read(&legacy.records).needed("going on after the daemon before")?;
    let lineage = match legacy.records.get(LINEAGE) {
        Some(lineage) => lineage.clone(),
        None => recover::new_lineage().needed("naming this daemon")?,
    };
    let ledger = start_ledger(&legacy, &lineage).needed("preparing the ledger")?;
    let rpc = socket(&mut legacy, &ledger, "rpc", &home.rpc_sock()).needed("opening the socket")?;
    let events = socket(&mut legacy, &ledger, "pub", &home.pub_sock()).needed("opening the socket")?;
    let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING);
    let (notices, notices_in) = mpsc::unbounded_channel();
    let (ends, ends_in) = mpsc::unbounded_channel();
    let (heard, heard_in) = notify::channel();
    let (findings, findings_in) = mpsc::channel(FINDINGS_WAITING);
    let exits = inbox(&mut legacy).needed("hearing of exits")?;
    let resources = resources(home, &legacy, ledger, &lineage, notices).needed("preparing the daemon")?;
    let service = Service {
        god: commands,
        hello: hello(home, &legacy),
        home: home.clone(),
        saved: resources.saved.clone(),
        lineage: lineage.clone(),
        threads: resources.threads.clone(),
        peer: Peer::ourselves(),
    };
    let shared = (resources.persistence.ledger.clone(), Rc::clone(&legacy.shared_memory));
    let (socket_guard, rpc, events) =
        sockets::keep(home.clone(), legacy.keeper, is_successor, shared, (rpc, events)).needed("watching the home")?;
    let orphaned = watch_keeper(legacy.keeper).needed("watching the keeper")?;
    let mut god = God::new(lineage, ends, heard, HealthChecks::new(findings), resources);
    let previous = legacy.previous;
    if let Some(previous) = previous {
        let Inherited { records, files, connections, other_sockets, .. } = legacy;
        god.recover(supervisor, RecoveredState { records, files, connections, rest: other_sockets, previous }, &exits);
    }
    notify::clear_leftovers(home, &god.notifications);
    // Empty groups of an earlier life go when they are let go of; those with processes stay.
    drop(god.resources.cgroups.leftovers());
    god.begin_probation(previous);
    god.resources.persistence.shared_memory.set(Word::Ready, 1);
    let channels = Channels {
        commands: commands_in,
        notices: notices_in,
        heard: heard_in,
        findings: findings_in,
        exits,
        ends: ends_in,
        orphaned,
    };
    let sources = Sources::new(channels, options.foreground).needed("handling signals")?;
    Ok(Bootstrapped { god, sources, service, rpc, events, socket_guard, is_successor })
}

fn hello(home: &Home, legacy: &Inherited) -> Hello {
    Hello {
        version: VERSION.to_owned(),
        pid: legacy.keeper,
        god: identity::pid(),
        generation: legacy.shared_memory.get(Word::Generation),
        started_at: clock::epoch_ms(),
        home: home.root().to_owned(),
        standing: DaemonWarnings::default(),
    }
}

fn resources(
    home: &Home,
    legacy: &Inherited,
    ledger: Ledger,
    lineage: &str,
    notices: mpsc::UnboundedSender<crate::cluster::Notice>,
) -> io::Result<Resources> {
    let shared_memory = Rc::clone(&legacy.shared_memory);
    let threads = Threads::start("files", FILE_THREADS)?;
    let journal = Journal::start(home, &ledger, lineage, !legacy.records.is_empty())?;
    let saved = Saved::default();
    know_saved(&threads, home.clone(), saved.clone());
    let cgroups = Cgroups::discover(home.root());
    tracing::info!("control groups: {}", cgroups.allowance());
    Ok(Resources {
        home: home.clone(),
        user: identity::user_name(),
        file_limit: (shared_memory.get(Word::FileLimitSoft), shared_memory.get(Word::FileLimitHard)),
        notices,
        logs: LogFiles::new(threads.clone())?,
        pid_files: PidFiles::new()?,
        persistence: Persistence { ledger, shared_memory, tracer: legacy.tracer.clone() },
        keeper: legacy.keeper,
        cgroups,
        journal,
        saved,
        history: Some(History::start(home.history())?),
        threads,
    })
}

/// Finds out what was saved, beside everything else.
fn know_saved(threads: &Threads, home: Home, saved: Saved) {
    // Ends when the file is read; nobody waits for it.
    threads.run(move || {
        let found = dump::saved(&home);
        let mut saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have saved meanwhile.
        *saved = saved.or(found);
    });
}

/// Makes the ledger of this God from the one before, whose file is closed.
fn start_ledger(legacy: &Inherited, lineage: &str) -> io::Result<Ledger> {
    let before = legacy.shared_memory.fd_slot(FdSlot::Ledger);
    let ledger = Ledger::start(Rc::clone(&legacy.shared_memory), &legacy.records)?;
    let on_trial = legacy.previous.is_some_and(|previous| previous.probation == UpgradeProbation::Running);
    if on_trial && legacy.shared_memory.fd_slot(FdSlot::LedgerBefore).is_none() {
        legacy.shared_memory.set_fd_slot(FdSlot::LedgerBefore, before);
    } else {
        drop(before.and_then(files::take));
    }
    ledger.put(LINEAGE, lineage);
    ledger.commit();
    Ok(ledger)
}

/// God's end of the exits, as a duplicate: the slot itself stays open for those who come after him.
fn inbox(legacy: &mut Inherited) -> io::Result<Inbox> {
    let exits = legacy.exits.take().ok_or(io::ErrorKind::NotFound)?;
    let ours = exits.try_clone();
    let _ = exits.into_raw_fd();
    Inbox::new(ours?)
}

/// One of our sockets: the one that was kept, which has taken calls all the while, or a new one.
fn socket(legacy: &mut Inherited, ledger: &Ledger, name: &str, path: &Path) -> Result<UnixListener, String> {
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
