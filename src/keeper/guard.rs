//! The guard of an upgrade: a process of the old program that waits while the new program takes its first steps.
//!
//! The keeper that executes a new program is gone from that moment on. If the new program dies before it has a God, no
//! process is left that has the open files. The guard has them, since it was started before with the keeper's table of
//! open files. It then executes the old program as a keeper. If the new program's God is alive, God does that itself
//! and the guard ends. When the probation is over, the new keeper dismisses the guard.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::RawFd;
use std::rc::Rc;

use nix::sys::signal::Signal;

use super::inherited::{GodFds, Inherited};
use super::probation::UpgradeProbation;
use super::resume::execute;
use super::shared_memory::{FdSlot, Place, SharedMemory, Word};
use crate::os::clock;
use crate::os::fs::files;
use crate::os::process::signals;
use crate::os::process::signals::BlockedSignals;
use crate::os::process::{clone_files, identity, proc, tree};

/// The new keeper sends it to the guard when the new program runs: an exec ends the sharing of the table, so from then
/// on the guard has a table of its own.
const SEPARATED: Signal = Signal::SIGUSR1;
/// The keeper sends it to end the guard.
const DISMISSED: Signal = Signal::SIGTERM;
/// The kernel sends it to the guard when the keeper has died.
const KEEPER_DIED: Signal = Signal::SIGHUP;

/// Starts a guard. The keeper calls it just before it executes the new program.
pub(super) fn start(shared_memory: &Rc<SharedMemory>, home: &OsStr) -> std::io::Result<()> {
    let keeper = identity::pid();
    let pid = clone_files::start(|| {
        stand_by(shared_memory, home, keeper);
        0
    })?;
    shared_memory.set(Word::Guard, u64::try_from(pid).unwrap_or_default());
    Ok(())
}

/// Tells the guard, if there is one, that the new program runs as the keeper.
pub(super) fn separate(shared_memory: &SharedMemory, keeper: i32) {
    send(shared_memory, keeper, SEPARATED);
}

/// Ends the guard, if there is one.
pub(super) fn dismiss(shared_memory: &SharedMemory, keeper: i32) {
    if send(shared_memory, keeper, DISMISSED) {
        shared_memory.set(Word::Guard, 0);
    }
}

/// False if no guard was started.
fn send(shared_memory: &SharedMemory, keeper: i32, signal: Signal) -> bool {
    let Some(guard) = i32::try_from(shared_memory.get(Word::Guard)).ok().filter(|pid| *pid > 0) else { return false };
    if proc::stat(guard).is_some_and(|stat| stat.parent == keeper) {
        // The guard may have ended in this very moment.
        let _ = tree::signal(guard, signal as i32);
    }
    true
}

/// Ends the probation of an upgrade, whether the new program stays or the old one is back: dismisses the guard and
/// closes the files that were kept for a return to the old program. God calls it.
pub fn end_probation(shared_memory: &SharedMemory, keeper: i32) {
    UpgradeProbation::None.write(shared_memory);
    dismiss(shared_memory, keeper);
    for slot in [FdSlot::ProgramBefore, FdSlot::LedgerBefore] {
        let file = shared_memory.fd_slot(slot).and_then(files::take);
        shared_memory.set_fd_slot(slot, None);
        drop(file);
    }
}

fn stand_by(shared_memory: &Rc<SharedMemory>, home: &OsStr, keeper: i32) {
    let Ok(signals) = BlockedSignals::block(&[SEPARATED, DISMISSED, KEEPER_DIED]) else { return };
    if rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::HUP)).is_err() {
        return;
    }
    // The keeper may have died before the signal was asked for.
    if proc::stat(keeper).is_none() {
        return take_over(shared_memory, home, &slots(shared_memory));
    }
    let own_slots = slots(shared_memory);
    let mut held = None;
    loop {
        match signals.next(None) {
            // A connection that a worker has must end when the worker closes it, so the guard keeps no copy of it.
            Some(SEPARATED) => {
                held = Inherited::take(Rc::clone(shared_memory), GodFds::default(), keeper).ok().map(|mut left| {
                    left.other_sockets.clear();
                    left.connections.retain(|(_, place)| matches!(place, Place::Waiting { .. }));
                    left
                });
            }
            Some(KEEPER_DIED) => {
                let god = i32::try_from(shared_memory.get(Word::God)).unwrap_or_default();
                if held.is_some() && proc::stat(god).is_some() {
                    return;
                }
                return take_over(shared_memory, home, &own_slots);
            }
            Some(_) => return,
            None => {}
        }
    }
}

/// The slots under the numbers that they have in the guard's own table of open files.
fn slots(shared_memory: &SharedMemory) -> Vec<(FdSlot, Option<RawFd>)> {
    FdSlot::ALL.iter().map(|slot| (*slot, shared_memory.fd_slot(*slot))).collect()
}

/// Becomes the keeper again. Returns only if the old program cannot be executed, and then nothing is left to be done.
fn take_over(shared_memory: &SharedMemory, home: &OsStr, slots: &[(FdSlot, Option<RawFd>)]) {
    for (slot, number) in slots {
        shared_memory.set_fd_slot(*slot, *number);
    }
    UpgradeProbation::Failed.write(shared_memory);
    shared_memory.set(Word::LastEnd, 0);
    shared_memory.set(Word::EndedAt, clock::monotonic_ms());
    shared_memory.set(Word::Guard, 0);
    let _ = signals::unblock_all();
    if let Ok(program) = File::open("/proc/self/exe") {
        let _ = execute(shared_memory, &program, home);
    }
}
