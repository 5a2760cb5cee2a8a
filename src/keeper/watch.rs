//! The keeper's one loop: start God, reap whoever ends, pass signals on, start God again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::exits::Outbox;
use super::guard;
use super::inherited::{Given, Inherited};
use super::shared_memory::{FdSlot, SharedMemory, Word};
use super::{KeeperState, UPGRADE, UpgradeProbation, encode_end, execute};
use crate::os::fs::files;
use crate::os::process::reap;
use crate::os::process::reap::Ended;
use crate::os::process::signals;
use crate::os::process::signals::Awaited;
use crate::os::process::{clone_files, identity, tree};
use crate::os::tracer::{self, Deputy};
use crate::os::{clock, killpoint};

/// A God who lived shorter than this is not started again at once.
const SHORT_LIFE: Duration = Duration::from_millis(250);
/// The first wait then; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long exits wait for room in a socket that nobody reads.
const FLUSH_AGAIN: Duration = Duration::from_millis(20);
/// What a process ends with that could not do what it is for.
const FAILURE: i32 = 1;

/// Signals that are God's affair.
const PASSED_ON: [Signal; 5] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR2];

/// Comes from a God who is ready.
pub(super) const READY: Signal = Signal::SIGUSR1;

struct Keeper {
    shared_memory: Rc<SharedMemory>,
    own_pid: i32,
    home: OsString,
    signals: Awaited,
    exits: Outbox,
    /// Looks into programs on God's word. Each God has his own: nothing of his is left for the next.
    deputy: Option<Deputy>,
    /// A process beside God whose failure ends us, and what it ended with.
    companion: Option<i32>,
    companion_failed: Option<i32>,
    wait: Duration,
}

/// Lives as the keeper until God has ended for good, and returns the exit code. `god` is God's life; it runs in a
/// process of its own and returns that one's exit code. A `companion` is a child of ours that God cannot go on without.
///
/// Must be called in a process with one thread.
pub fn run(estate: KeeperState, home: &OsStr, companion: Option<i32>, god: impl Fn(Inherited) -> i32) -> i32 {
    let KeeperState { shared_memory, readiness } = estate;
    let prepared = Keeper::new(shared_memory, home.to_owned(), companion);
    let Ok(mut keeper) = prepared else { return FAILURE };
    let mut readiness = readiness;
    loop {
        match keeper.one_god(readiness.take(), &god) {
            Next::Again => keeper.pause(),
            Next::End(code) => return keeper.companion_failed.unwrap_or(code),
        }
    }
}

enum Next {
    Again,
    End(i32),
}

impl Keeper {
    fn new(shared_memory: Rc<SharedMemory>, home: OsString, companion: Option<i32>) -> std::io::Result<Keeper> {
        crate::os::process::detach::seal_inherited()?;
        identity::adopt_orphans()?;
        let all: Vec<Signal> = PASSED_ON.into_iter().chain([Signal::SIGCHLD, READY, tracer::ASKED]).collect();
        let signals = Awaited::block(&all)?;
        let own_pid = identity::pid();
        guard::tell(&shared_memory, own_pid, UpgradeProbation::of(&shared_memory) == UpgradeProbation::Running);
        if let Some(lock) = shared_memory.fd_slot(FdSlot::Lock) {
            // Who takes the pid from there to find a daemon that hangs needs the right one; nobody else depends on it.
            let _ = files::look_at(lock, |file| files::write_pid(file, own_pid));
        }
        let exits = shared_memory.fd_slot(FdSlot::ExitsIn).and_then(files::take).ok_or(std::io::ErrorKind::NotFound)?;
        let wait = Duration::ZERO;
        let exits = Outbox::new(exits);
        Ok(Keeper {
            shared_memory,
            own_pid,
            home,
            signals,
            exits,
            deputy: None,
            companion,
            companion_failed: None,
            wait,
        })
    }

    /// From a God's start to his end, and what follows from it.
    fn one_god(&mut self, readiness: Option<RawFd>, god: &impl Fn(Inherited) -> i32) -> Next {
        self.shared_memory.set(Word::Generation, self.shared_memory.get(Word::Generation) + 1);
        let begun = clock::monotonic_ms();
        let (shared_memory, keeper) = (Rc::clone(&self.shared_memory), self.own_pid);
        let given = Given { readiness, line: self.open_line() };
        let started = clone_files::start(|| match begin(shared_memory, given, keeper) {
            Ok(inherited) => {
                killpoint::arm(self.home.as_ref());
                god(inherited)
            }
            Err(_) => FAILURE,
        });
        let Ok(pid) = started else {
            // Out of processes or memory: apps run on, and we try again.
            drop(given.line.and_then(|(his, _)| files::take(his)));
            self.lengthen_wait();
            return Next::Again;
        };
        self.shared_memory.set(Word::God, u64::try_from(pid).unwrap_or_default());
        let ended = self.watch(pid);
        let now = clock::monotonic_ms();
        self.shared_memory.set(Word::EndedAt, now);
        self.shared_memory.set(Word::LastEnd, encode_end(Some(ended)));
        if Duration::from_millis(now - begun) < SHORT_LIFE {
            self.lengthen_wait();
        } else {
            self.wait = Duration::ZERO;
        }
        self.after(ended)
    }

    /// A line to the next God: his end and ours. Without one, for want of descriptors, he looks by himself.
    fn open_line(&mut self) -> Option<(RawFd, RawFd)> {
        // Closed before the next God sees what is open: he would take it for his.
        self.deputy = None;
        let (his, ours) = tracer::pair().ok()?;
        let line = (his.into_raw_fd(), ours.as_raw_fd());
        self.deputy = Some(ours);
        Some(line)
    }

    fn after(&mut self, ended: Ended) -> Next {
        match ended {
            Ended::Code(0) => self.end(0),
            Ended::Code(UPGRADE) => {
                self.upgrade();
                Next::Again
            }
            _ if UpgradeProbation::of(&self.shared_memory) == UpgradeProbation::Running => {
                self.go_back();
                Next::Again
            }
            // One that was never ready has said why, and nothing depends on us yet.
            Ended::Code(code) if self.shared_memory.get(Word::Ready) == 0 => self.end(code),
            Ended::Signal(_) if self.shared_memory.get(Word::Ready) == 0 => self.end(FAILURE),
            Ended::Code(_) | Ended::Signal(_) => Next::Again,
        }
    }

    fn end(&mut self, code: i32) -> Next {
        for pid in self.companion.take().map(|companion| tree::descendants(&[companion])).into_iter().flatten() {
            // It may have ended in this very moment.
            let _ = tree::signal(pid, libc::SIGKILL);
        }
        Next::End(code)
    }

    /// Executes the program God has chosen, and keeps ours to return to.
    fn upgrade(&mut self) {
        let Some(program) = self.take_slot(FdSlot::Program) else { return };
        let Ok(own) = File::open("/proc/self/exe") else { return };
        self.shared_memory.set_fd_slot(FdSlot::ProgramBefore, Some(own.as_raw_fd()));
        UpgradeProbation::Running.note(&self.shared_memory);
        // Without a guard it is tried all the same: what he guards against is a new keeper that dies at once.
        let _ = guard::post(&self.shared_memory, &self.home);
        self.execute(&program);
        UpgradeProbation::NotExecuted.note(&self.shared_memory);
        guard::tell(&self.shared_memory, self.own_pid, false);
        self.shared_memory.set_fd_slot(FdSlot::ProgramBefore, None);
    }

    /// Executes the program before the upgrade.
    fn go_back(&mut self) {
        UpgradeProbation::Failed.note(&self.shared_memory);
        if let Some(program) = self.take_slot(FdSlot::ProgramBefore) {
            self.execute(&program);
        }
    }

    fn take_slot(&self, slot: FdSlot) -> Option<OwnedFd> {
        let file = files::take(self.shared_memory.fd_slot(slot)?);
        self.shared_memory.set_fd_slot(slot, None);
        file
    }

    /// Does not return if it works. The exits that wait go into the socket before, for there is no other way for them.
    fn execute(&mut self, program: &OwnedFd) {
        self.exits.flush();
        let _ = execute(&self.shared_memory, program, &self.home);
    }

    /// Reaps and passes signals on until God has ended.
    fn watch(&mut self, god: i32) -> Ended {
        let mut all_sent = true;
        loop {
            let limit = (!all_sent).then_some(FLUSH_AGAIN);
            match self.signals.next(limit) {
                None | Some(Signal::SIGCHLD) => {}
                // Without an init system that waits for it there is nobody to tell.
                Some(tracer::ASKED) => self.deputy.iter().for_each(Deputy::answer),
                Some(READY) => drop(sd_notify::notify(&[sd_notify::NotifyState::Ready])),
                // He may have ended in this very moment.
                Some(signal) => drop(tree::signal(god, signal as i32)),
            }
            let ended = self.reap(god);
            all_sent = self.exits.flush();
            self.shared_memory.set(Word::ForgottenExits, self.exits.forgotten());
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Reaps everybody who has ended. One signal may stand for several.
    fn reap(&mut self, god: i32) -> Option<Ended> {
        let mut end_of_god = None;
        while let Some((pid, ended)) = reap::reap_one() {
            if pid == god {
                end_of_god = Some(ended);
            } else if self.companion == Some(pid) {
                self.companion = None;
                // A signal was a person's, or a terminal's: no failure of what it ran.
                if let Ended::Code(code @ 1..) = ended {
                    self.companion_failed = Some(code);
                    let _ = tree::signal(god, libc::SIGTERM);
                }
            } else {
                self.exits.add((pid, ended));
            }
        }
        end_of_god
    }

    fn lengthen_wait(&mut self) {
        self.wait = (self.wait * 2).clamp(FIRST_WAIT, LAST_WAIT);
    }

    /// Waits before the next start, if the last ones were in vain. Whoever ends meanwhile is reaped when it is over.
    fn pause(&self) {
        if self.wait > FIRST_WAIT {
            std::thread::sleep(self.wait);
        }
    }
}

/// The first steps of God's process.
fn begin(shared_memory: Rc<SharedMemory>, given: Given, keeper: i32) -> std::io::Result<Inherited> {
    // What a terminal sends reaches the keeper, who passes it on: once.
    let _ = rustix::process::setpgid(None, None);
    signals::unblock_all()?;
    Inherited::take(shared_memory, given, keeper)
}
