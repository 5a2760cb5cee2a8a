//! The whole state as records, so that a daemon that dies at any instant is followed by one that goes on.
//!
//! A record is a [`RecordKey`] and a JSON text. After every input [`Supervisor::changes`] hands out the records that
//! changed; all of them together, the later in place of the earlier, are the state, from which
//! [`Supervisor::from_records`] makes a supervisor that goes on where the other was. What changes often (a process, the
//! operations of an app) is small; what is big (specs, with their environments) has records of its own. Times are of
//! the machine's monotonic clock and hold for one boot. Answers are not kept: the client's connection ended with the
//! daemon, so a recovered operation has no ticket.
//!
//! # What the shell must do
//!
//! *Records before effects.* The changes of one input are written as one piece, which is read back as a whole or not at
//! all, before the first effect of that input is carried out. Then a daemon that dies in between leaves intentions,
//! which [`Supervisor::unfinished`] names. In the other order effects would be carried out without a record: a process
//! without an owner, a stop that looks like a crash and is followed by a restart. Events, requested signals and answers
//! that were not sent are lost: the clients that waited for them are disconnected, too.
//!
//! A new daemon, before anything else:
//! 1. reads the records, [`Supervisor::from_records`];
//! 2. kills the trees of *stray runs*, those that live and for which [`Supervisor::process_of`] returns `None`. There
//!    are none unless the last records were lost (a full disk). Their numbers and those of exits not reported yet are
//!    not given again: [`Supervisor::skip_runs_to`]. Of the others it admits each that is ready ([`Process::serving`]),
//!    but for those it passes over ([`Supervisor::is_ejected`]);
//! 3. carries out, in order, [`Supervisor::unfinished`]: a `Spawn` only if that run was not started before, a
//!    `Terminate` only if the stop signal was not sent before (two mean *at once* to many programs), `Drain` and `Kill`
//!    in any case, nothing for runs that are no longer there; `CloseListeners` and `WatchForDemand` in any case: a
//!    repetition does no harm. For a `Spawn` or `Terminate` carried out now it reports [`Input::Delayed`], and
//!    `Spawned` for every `Spawn`, carried out now or before, since that report may be lost;
//! 4. reports what happened in between, in order, and `Exited` for each run of a process whose main process is no
//!    longer there (see [`Process::runs`]), with [`Exit::Unknown`](crate::protocol::Exit) if the exit status is not
//!    known. An exit that was reported before stays: a second report only tells whether other processes of its tree are
//!    left;
//! 5. reports again which runs are ready, as far as it knows; twice does no harm;
//! 6. reports [`Input::WatchdogPing`] for runs with a watchdog: pings sent while no daemon ran were lost;
//! 7. if [`Supervisor::is_closing`], requests the shutdown again, to get its answer;
//! 8. closes what it holds for apps that are not here.
//!
//! Nothing else needs a push. After every input each operation has been carried as far as it goes, so what is written
//! down waits for news of a run, which steps 3 to 5 bring, or for a moment, which [`Supervisor::next_deadline`] names.

mod key;
mod read;
mod records;
#[cfg(test)]
mod tests;
mod unfinished;
mod write;

pub use key::{RecordKey, UnknownKey, Unreadable};

#[cfg(doc)]
use super::{Input, Process, Supervisor};
