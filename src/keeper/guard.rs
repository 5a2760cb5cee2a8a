//! The guard of an upgrade: a twin of the old keeper that stands by while the new program takes its first steps.
//!
//! The keeper that executes a new program is gone; should the new one die before it has a God, nobody would be left who
//! has the open files. The guard has them, from before, and then executes the old program, as a keeper. Should the new
//! God be alive he does that himself. When the trial is over the guard is sent away.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::RawFd;
use std::rc::Rc;

use nix::sys::signal::Signal;

use super::inherited::{Given, Inherited};
use super::shared_memory::{FdSlot, SharedMemory, Word};
use super::{UpgradeProbation, execute};
use crate::os::clock;
use crate::os::process::signals;
use crate::os::process::signals::Awaited;
use crate::os::process::{clone_files, identity, proc, tree};

/// Comes to the guard when the keeper has executed the new program: from then on they share no table.
const APART: Signal = Signal::SIGUSR1;
/// Sends the guard away.
const DONE: Signal = Signal::SIGTERM;
/// Comes when the keeper has died.
const ALONE: Signal = Signal::SIGHUP;

/// Starts a guard. To be called by the keeper just before it executes the new program.
pub(super) fn post(shared_memory: &Rc<SharedMemory>, home: &OsStr) -> std::io::Result<()> {
    let keeper = identity::pid();
    let pid = clone_files::start(|| {
        stand(shared_memory, home, keeper);
        0
    })?;
    shared_memory.set(Word::Guard, u64::try_from(pid).unwrap_or_default());
    Ok(())
}

/// Tells the guard, if there is one, that the new keeper is there (`true`), or that it may go.
pub(super) fn tell(shared_memory: &SharedMemory, keeper: i32, apart: bool) {
    let Some(guard) = i32::try_from(shared_memory.get(Word::Guard)).ok().filter(|pid| *pid > 0) else { return };
    if proc::stat(guard).is_some_and(|stat| stat.parent == keeper) {
        // It may have ended in this very moment.
        let _ = tree::signal(guard, if apart { APART } else { DONE } as i32);
    }
    if !apart {
        shared_memory.set(Word::Guard, 0);
    }
}

fn stand(shared_memory: &Rc<SharedMemory>, home: &OsStr, keeper: i32) {
    let Ok(signals) = Awaited::block(&[APART, DONE, ALONE]) else { return };
    if rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::HUP)).is_err() {
        return;
    }
    // It may have died before we asked to be told.
    if proc::stat(keeper).is_none() {
        return take_over(shared_memory, home, &slots(shared_memory));
    }
    let ours = slots(shared_memory);
    let mut held = None;
    loop {
        match signals.next(None) {
            // What goes on without us must end without us: connections of workers, above all.
            Some(APART) => {
                held = Inherited::take(Rc::clone(shared_memory), Given::default(), keeper).ok().map(|mut left| {
                    left.rest.clear();
                    left.connections.retain(|(_, place)| matches!(place, super::Place::Waiting { .. }));
                    left
                });
            }
            Some(ALONE) => {
                let god = i32::try_from(shared_memory.get(Word::God)).unwrap_or_default();
                if held.is_some() && proc::stat(god).is_some() {
                    return;
                }
                return take_over(shared_memory, home, &ours);
            }
            Some(_) => return,
            None => {}
        }
    }
}

/// The slots as they are numbered in our table.
fn slots(shared_memory: &SharedMemory) -> Vec<(FdSlot, Option<RawFd>)> {
    FdSlot::ALL.iter().map(|slot| (*slot, shared_memory.fd_slot(*slot))).collect()
}

/// Comes back only if the program cannot be executed, and then there is nothing more to be done.
fn take_over(shared_memory: &SharedMemory, home: &OsStr, slots: &[(FdSlot, Option<RawFd>)]) {
    for (slot, number) in slots {
        shared_memory.set_fd_slot(*slot, *number);
    }
    UpgradeProbation::Failed.note(shared_memory);
    shared_memory.set(Word::LastEnd, 0);
    shared_memory.set(Word::EndedAt, clock::monotonic_ms());
    shared_memory.set(Word::Guard, 0);
    let _ = signals::unblock_all();
    if let Ok(program) = File::open("/proc/self/exe") {
        let _ = execute(shared_memory, &program, home);
    }
}
