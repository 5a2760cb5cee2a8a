//! Watches on `bind` and `listen` calls: whether they are possible on this machine, and one for each program that starts.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::cluster::{self, Cluster};
use crate::keeper::Ledger;
use crate::os::killpoint;
use crate::os::process::identity;
use crate::os::seccomp::{self, Pending, ability};
use crate::os::tracer::{Tracer, is_unanswered};
use crate::protocol::Run;
use crate::spec::{AppSpec, Mechanism};

/// Makes the watches.
pub(crate) struct BindWatches {
    tracer: Tracer,
    ledger: Ledger,
    /// Why binds cannot be watched here, if they cannot: found out at the first need, by trying.
    obstacle: OnceCell<Option<String>>,
}

impl BindWatches {
    /// Nothing is tried yet.
    pub fn new(tracer: Tracer, ledger: Ledger) -> BindWatches {
        BindWatches { tracer, ledger, obstacle: OnceCell::new() }
    }

    /// Why binds cannot be watched here, in words; `None` if they can.
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.get_or_init(|| obstacle(&self.tracer)).as_deref()
    }

    /// Prepares the watch of a run, if its binds are to be watched and can be. Our end is kept before there is a process.
    pub fn prepare(&self, run: Run, spec: &AppSpec) -> io::Result<Option<Handover>> {
        match spec.mechanism() {
            Mechanism::None | Mechanism::Node | Mechanism::Activation => return Ok(None),
            Mechanism::BindInterception if self.obstacle().is_some() => return Ok(None),
            Mechanism::BindInterception => {}
        }
        let (pending, theirs) = seccomp::handover()?;
        self.ledger.keep(&cluster::handover_name(run), &pending);
        Ok(Some(Handover { run, pending, theirs }))
    }

    /// The process could not be started.
    pub fn abort(&self, handover: Option<Handover>) {
        if let Some(handover) = handover {
            self.ledger.release(&cluster::handover_name(handover.run));
        }
    }

    /// The process of this pid has begun, so its watch is there: the cluster of its app gets it.
    pub fn begin(&self, pid: i32, handover: Handover, cluster: &Cluster) {
        let Handover { run, pending, theirs } = handover;
        // Now only the process has that end open, so its exit closes the socket, which can be noticed.
        drop(theirs);
        match pending.take() {
            Ok(watch) => {
                killpoint::pass("watch-taken");
                cluster.watch(run, pid, watch);
            }
            Err(error) => tracing::error!(run = run.0, %error, "a worker's binds cannot be watched"),
        }
        self.ledger.release(&cluster::handover_name(run));
    }
}

fn obstacle(tracer: &Tracer) -> Option<String> {
    let found = if killpoint::is_armed("no-takeover") {
        Some("disabled by a test".to_owned())
    } else {
        match ability::ability(None, tracer) {
            // That the keeper does not answer at this moment is no property of the machine.
            Ok(found) => found.obstacle().filter(|found| !is_unanswered(found.errno)).map(ToString::to_string),
            Err(error) => Some(error.to_string()),
        }
    };
    match &found {
        None => tracing::debug!(user = identity::uid(), "binds of programs can be intercepted"),
        Some(why) => tracing::warn!(
            "binds of programs cannot be intercepted here ({why}): workers share a port only if they set SO_REUSEPORT"
        ),
    }
    found
}

/// Both ends of the socket over which the process passes its watch to us.
pub(crate) struct Handover {
    run: Run,
    pending: Pending,
    theirs: OwnedFd,
}

impl Handover {
    /// The end for the process.
    pub fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }
}
