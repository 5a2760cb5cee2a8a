//! Whether programs can have their binds watched here, and a watch for each that starts.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::god::God;
use crate::cluster;
use crate::os::killpoint;
use crate::os::process::identity;
use crate::os::seccomp::{self, Pending, ability};
use crate::os::tracer::{Tracer, is_unanswered};
use crate::protocol::Run;
use crate::spec::{AppSpec, Mechanism};
use crate::supervisor::AppId;

/// What is known of that: found out at the first need, by trying.
#[derive(Debug)]
pub(crate) struct BindWatches {
    tracer: Tracer,
    obstacle: OnceCell<Option<String>>,
}

impl BindWatches {
    /// With nothing known yet.
    pub fn new(tracer: Tracer) -> BindWatches {
        BindWatches { tracer, obstacle: OnceCell::new() }
    }

    /// What is in the way, in words.
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.get_or_init(|| obstacle(&self.tracer)).as_deref()
    }
}

fn obstacle(tracer: &Tracer) -> Option<String> {
    let found = if killpoint::is_armed("no-takeover") {
        Some("told so by a test".to_owned())
    } else {
        match ability::ability(None, tracer) {
            // A keeper who does not answer just now says nothing of the machine.
            Ok(found) => found.obstacle().filter(|found| !is_unanswered(found.errno)).map(ToString::to_string),
            Err(error) => Some(error.to_string()),
        }
    };
    match &found {
        None => tracing::debug!(user = identity::uid(), "binds of programs can be taken over"),
        Some(why) => tracing::warn!(
            "binds of programs cannot be taken over here ({why}): workers share a port only if they set SO_REUSEPORT"
        ),
    }
    found
}

/// Both ends of what a watch comes to us by.
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

impl God {
    /// For a process whose binds are to be watched, if they can be. Our end is kept before there is a process.
    pub(crate) fn hand_over_watch(&self, run: Run, spec: &AppSpec) -> io::Result<Option<Handover>> {
        match spec.mechanism() {
            Mechanism::None | Mechanism::Node | Mechanism::Activation => return Ok(None),
            Mechanism::BindInterception if self.bind_watches.obstacle().is_some() => return Ok(None),
            Mechanism::BindInterception => {}
        }
        let (pending, theirs) = seccomp::handover()?;
        self.resources.persistence.ledger.keep(&cluster::handover_name(run), &pending);
        Ok(Some(Handover { run, pending, theirs }))
    }

    /// There is no such process.
    pub(crate) fn drop_watch(&self, handover: Option<Handover>) {
        if let Some(handover) = handover {
            self.resources.persistence.ledger.release(&cluster::handover_name(handover.run));
        }
    }

    /// The process has begun: its watch is there.
    pub(crate) fn take_watch(&mut self, app: AppId, spec: &AppSpec, pid: i32, handover: Handover) {
        let Handover { run, pending, theirs } = handover;
        // Only the process has it now: should it end, that can be told.
        drop(theirs);
        match pending.take() {
            Ok(watch) => {
                killpoint::pass("watch-taken");
                self.cluster(app, spec).watch(run, pid, watch);
            }
            Err(error) => tracing::error!(run = run.0, %error, "a worker's binds cannot be watched"),
        }
        self.resources.persistence.ledger.release(&cluster::handover_name(run));
    }
}
