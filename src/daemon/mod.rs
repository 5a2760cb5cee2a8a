//! God's hands: the daemon process around the pure supervisor. Read [`run`] first.
//!
//! One thread runs everything that decides or dispatches: the God task, the RPC, the clusters. Only work on files goes to
//! a pool of threads that come and go, so a slow disk stops nobody. The process itself is one of several, one after the
//! other, that the [`crate::keeper`] starts.

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

/// Descriptors that this God leaves free for the next one to begin with.
const FILES_SPARED: u64 = 64;

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
pub fn found(home: &Home, readiness: Option<OwnedFd>) -> Result<KeeperState, String> {
    let pid = identity::pid();
    match home_dir::lock(home, pid) {
        Ok(lock) => KeeperState::create(lock, readiness).map_err(|error| format!("preparing the keeper: {error}")),
        Err(error) => {
            say(&mut readiness.map(File::from), &error);
            Err(error)
        }
    }
}

/// God's life, in a process of his own: until he is told to end. The error is a sentence; it has also been written to the
/// readiness pipe, if there is one.
pub fn run(options: &Options, mut inherited: Inherited) -> Result<(), String> {
    let mut readiness = inherited.readiness.take().map(File::from);
    let outcome = prepare(&options.home, inherited.previous.is_none())
        .needed("preparing the home")
        .and_then(|()| serve(options, inherited, &mut readiness));
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

/// Everything that must hold before God can live. What would keep a first daemon from starting must not keep one that
/// has apps to look after: for him the home is seen to later, and his log is written when it can be.
fn prepare(home: &Home, first: bool) -> Result<(), String> {
    let path = home.daemon_log();
    if first {
        home_dir::furnish(home)?;
        disk::log::check(&path).map_err(home_dir::at(&path))?;
    }
    disk::log::start(&path).map_err(|error| format!("starting the log: {error}"))?;
    identity::survive_file_size_limit().map_err(|error| format!("ignoring a signal: {error}"))
}

fn serve(options: &Options, inherited: Inherited, readiness: &mut Option<File>) -> Result<(), String> {
    panics::end_god(&options.home);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().needed("starting the runtime")?;
    let outcome = LocalSet::new().block_on(&runtime, live(options, inherited, readiness));
    // A write that hangs on a dead disk must not keep us.
    runtime.shutdown_background();
    outcome
}

async fn live(options: &Options, inherited: Inherited, readiness: &mut Option<File>) -> Result<(), String> {
    let home = &options.home;
    let Bootstrapped { god, sources, service, rpc, events, socket_guard, is_successor } =
        bootstrap(home, options.foreground, inherited)?;
    let keeper = service.hello.pid;
    let own_files = identity::spare_files(FILES_SPARED).needed("limiting our files")?;
    // Both serve as long as the runtime lives; God decides when that is over.
    tokio::spawn(rpc::server::serve_rpc(rpc, service.clone(), own_files));
    tokio::spawn(rpc::server::serve_events(events, service.god.clone()));
    let god = tokio::task::spawn_local(god.run(sources));
    tracing::info!("pmr {VERSION} started in {}", home.root().display());
    if !is_successor
        && options.resurrect
        && let Err(refusal) = service.resurrect(Context::current()).await
    {
        tracing::info!("nothing was brought back: {refusal}");
    }
    say(readiness, "ok");
    crate::keeper::tell_ready(keeper);
    let outcome = god.await.map_err(|error| format!("the God task failed: {error}"));
    drop(socket_guard);
    for path in [home.rpc_sock(), home.pub_sock(), home.pid_file()] {
        let _ = fs::remove_file(path);
    }
    tracing::info!("ended");
    outcome
}
