//! The daemon process: everything with side effects around the pure supervisor. Read [`run`] first.
//!
//! One thread runs everything that decides or dispatches: the God task, the RPC, the clusters. Only work on files goes to
//! a pool of threads that come and go, so a slow disk blocks none of these. The [`crate::keeper`] starts the process, and
//! the next one when it ends.

mod boot;
mod clusters;
pub mod disk;
mod effect;
mod event_sources;
mod god;
mod launch;
mod moment;
mod panics;
mod rpc;
mod runs;
pub mod upgrade;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;

use tarpc::context::Context;
use tokio::task::LocalSet;

use crate::keeper::{Inherited, KeeperState};
use crate::os::process::identity;
use crate::paths::Home;
use crate::protocol::{Daemon, VERSION};
use boot::bootstrap::{Bootstrapped, Needed, bootstrap};
use disk::home_dir;

/// Open files that this God leaves unused below the limit, so that the next God can start.
const FILES_SPARED: u64 = 64;

/// How the daemon runs; from its command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// The home folder of the daemon.
    pub home: Home,
    /// True in a terminal or under an init system: SIGHUP ends the daemon.
    pub foreground: bool,
    /// Restore the saved list before `ok` is written to the readiness pipe.
    pub resurrect: bool,
}

/// Locks the home for this process, which is to be the keeper, and makes what the keeper shares with God. Called before
/// there is a God. The error is a sentence; it has also been written to `readiness`.
pub fn prepare_keeper(home: &Home, readiness: Option<OwnedFd>) -> Result<KeeperState, String> {
    let pid = identity::pid();
    match home_dir::lock(home, pid) {
        Ok(lock) => KeeperState::create(lock, readiness).map_err(|error| format!("preparing the keeper: {error}")),
        Err(error) => {
            report_start(&mut readiness.map(File::from), &error);
            Err(error)
        }
    }
}

/// Runs God in this process until a client or a signal ends the daemon. The error is a sentence; it has also been written
/// to the readiness pipe, if there is one.
pub fn run(options: &Options, mut inherited: Inherited) -> Result<(), String> {
    let mut readiness = inherited.readiness.take().map(File::from);
    let outcome = prepare(&options.home, inherited.previous.is_none())
        .needed("preparing the home")
        .and_then(|()| serve(options, inherited, &mut readiness));
    if let Err(error) = &outcome {
        tracing::error!("the daemon ends: {error}");
        report_start(&mut readiness, error);
    }
    outcome
}

/// Writes the outcome of the start to the process that started the daemon, once. That process may have stopped waiting,
/// so a failed write is ignored.
fn report_start(readiness: &mut Option<File>, text: &str) {
    if let Some(mut pipe) = readiness.take() {
        let _ = writeln!(pipe, "{text}");
    }
}

/// Prepares the home and the log. A home or log that cannot be written keeps the `first` God from starting. It must not
/// keep a later God from starting, which has apps to look after: that God prepares the home once it runs
/// ([`boot::sockets`]), and its log is written as soon as it can be.
fn prepare(home: &Home, first: bool) -> Result<(), String> {
    let path = home.daemon_log();
    if first {
        home_dir::prepare(home)?;
        disk::log::check(&path).map_err(home_dir::at(&path))?;
    }
    disk::log::start(&path).map_err(|error| format!("starting the log: {error}"))?;
    identity::survive_file_size_limit().map_err(|error| format!("ignoring a signal: {error}"))
}

fn serve(options: &Options, inherited: Inherited, readiness: &mut Option<File>) -> Result<(), String> {
    panics::install_hook(&options.home);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().needed("starting the runtime")?;
    let outcome = LocalSet::new().block_on(&runtime, run_god(options, inherited, readiness));
    // A write that hangs on a dead disk must not keep this process from exiting.
    runtime.shutdown_background();
    outcome
}

async fn run_god(options: &Options, inherited: Inherited, readiness: &mut Option<File>) -> Result<(), String> {
    let home = &options.home;
    let Bootstrapped { god, sources, service, rpc, events, socket_guard, is_successor } =
        bootstrap(home, options.foreground, inherited)?;
    let keeper = service.hello.pid;
    let own_files = identity::spare_files(FILES_SPARED).needed("limiting our files")?;
    // Both serve until the runtime is dropped, after God has ended.
    tokio::spawn(rpc::server::serve_rpc(rpc, service.clone(), own_files));
    tokio::spawn(rpc::server::serve_events(events, service.god.clone()));
    let god = tokio::task::spawn_local(god.run(sources));
    tracing::info!("pmr {VERSION} started in {}", home.root().display());
    if !is_successor
        && options.resurrect
        && let Err(refusal) = service.resurrect(Context::current()).await
    {
        tracing::info!("nothing was restored: {refusal}");
    }
    report_start(readiness, "ok");
    crate::keeper::tell_ready(keeper);
    let outcome = god.await.map_err(|error| format!("the God task failed: {error}"));
    drop(socket_guard);
    for path in [home.rpc_sock(), home.pub_sock(), home.pid_file()] {
        let _ = fs::remove_file(path);
    }
    tracing::info!("ended");
    outcome
}
