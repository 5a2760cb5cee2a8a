//! The keeper's only loop: start God, reap children, pass signals on to God, start God again.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::exits::Outbox;
use super::guard;
use super::inherited::{GodFds, Inherited};
use super::probation::UpgradeProbation;
use super::resume::{KeeperState, execute};
use super::shared_memory::{FdSlot, SharedMemory, Word};
use crate::os::fs::files;
use crate::os::process::reap;
use crate::os::process::reap::Ended;
use crate::os::process::signals;
use crate::os::process::signals::BlockedSignals;
use crate::os::process::{clone_files, identity, tree};
use crate::os::tracer::{self, TraceProxy};
use crate::os::{clock, killpoint};

/// Exit code of a God that wants the keeper to execute the program behind [`FdSlot::Program`].
pub const UPGRADE: i32 = 75;

/// After a God that lived for a shorter time than this, the next start is delayed.
const SHORT_LIFE: Duration = Duration::from_millis(250);
/// The delay after the first short life. It doubles with each further one, up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// How long the keeper waits before it tries again to send exits into a socket that is full.
const FLUSH_AGAIN: Duration = Duration::from_millis(20);
/// Exit code of a process that could not do what it is for.
const FAILURE: i32 = 1;

/// Signals that the keeper passes on to God.
const PASSED_ON: [Signal; 5] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR2];

/// God sends it to the keeper when it is ready.
const READY: Signal = Signal::SIGUSR1;

struct Keeper {
    shared_memory: Rc<SharedMemory>,
    own_pid: i32,
    home: OsString,
    signals: BlockedSignals,
    exits: Outbox,
    /// Looks into processes at God's request. Each God gets a new one, so that no request of a dead God is left in it.
    trace_proxy: Option<TraceProxy>,
    /// A child beside God whose failure ends the daemon, and the exit code of that failure.
    companion: Option<i32>,
    companion_failed: Option<i32>,
    /// How long to wait before the next God is started.
    delay: Duration,
}

/// Runs the keeper until God has ended for good, and returns the exit code of the daemon. `god` is what God does; it
/// runs in a process of its own, which ends with the exit code that `god` returns. `companion` is the pid of a child
/// that God cannot go on without.
///
/// To be called in a process with one thread.
pub fn run(state: KeeperState, home: &OsStr, companion: Option<i32>, god: impl Fn(Inherited) -> i32) -> i32 {
    let KeeperState { shared_memory, mut readiness } = state;
    let prepared = Keeper::new(shared_memory, home.to_owned(), companion);
    let Ok(mut keeper) = prepared else { return FAILURE };
    loop {
        match keeper.run_god(readiness.take(), &god) {
            Next::Again => keeper.pause(),
            Next::End(code) => return keeper.companion_failed.unwrap_or(code),
        }
    }
}

/// Has the keeper tell an init system that waits for it that God is ready. The init system takes that only from the
/// process it started, which is the keeper.
pub fn tell_ready(keeper: i32) {
    // Fails only if the keeper is dead. Then a God follows that reports to a keeper of its own.
    let _ = tree::signal(keeper, READY as i32);
}

/// What the keeper does after God has ended.
enum Next {
    Again,
    End(i32),
}

impl Keeper {
    fn new(shared_memory: Rc<SharedMemory>, home: OsString, companion: Option<i32>) -> std::io::Result<Keeper> {
        crate::os::process::detach::seal_inherited()?;
        identity::adopt_orphans()?;
        let all: Vec<Signal> = PASSED_ON.into_iter().chain([Signal::SIGCHLD, READY, tracer::REQUESTED]).collect();
        let signals = BlockedSignals::block(&all)?;
        let own_pid = identity::pid();
        match UpgradeProbation::read(&shared_memory) {
            UpgradeProbation::Running => guard::separate(&shared_memory, own_pid),
            UpgradeProbation::None | UpgradeProbation::NotExecuted | UpgradeProbation::Failed => {
                guard::dismiss(&shared_memory, own_pid);
            }
        }
        if let Some(lock) = shared_memory.fd_slot(FdSlot::Lock) {
            // The pid in the file is only needed to find a daemon that hangs, so a failure is ignored.
            let _ = files::with_number(lock, |file| files::write_pid(file, own_pid));
        }
        let exits = shared_memory.fd_slot(FdSlot::ExitsIn).and_then(files::take).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Keeper {
            shared_memory,
            own_pid,
            home,
            signals,
            exits: Outbox::new(exits),
            trace_proxy: None,
            companion,
            companion_failed: None,
            delay: Duration::ZERO,
        })
    }

    /// Starts a God, waits for its end, and decides what follows.
    fn run_god(&mut self, readiness: Option<RawFd>, god: &impl Fn(Inherited) -> i32) -> Next {
        self.shared_memory.set(Word::Generation, self.shared_memory.get(Word::Generation) + 1);
        let begun = clock::monotonic_ms();
        let (shared_memory, keeper) = (Rc::clone(&self.shared_memory), self.own_pid);
        let fds = GodFds { readiness, tracer_link: self.open_tracer_link() };
        let started = clone_files::start(|| match begin(shared_memory, fds, keeper) {
            Ok(inherited) => {
                killpoint::arm(self.home.as_ref());
                god(inherited)
            }
            Err(_) => FAILURE,
        });
        let Ok(pid) = started else {
            // The machine is out of processes or memory. Apps run on, and the keeper tries again.
            drop(fds.tracer_link.and_then(|(god, _)| files::take(god)));
            self.lengthen_delay();
            return Next::Again;
        };
        self.shared_memory.set(Word::God, u64::try_from(pid).unwrap_or_default());
        let ended = self.wait_for_end(pid);
        let now = clock::monotonic_ms();
        self.shared_memory.set(Word::EndedAt, now);
        self.shared_memory.set_last_end(ended);
        if Duration::from_millis(now - begun) < SHORT_LIFE {
            self.lengthen_delay();
        } else {
            self.delay = Duration::ZERO;
        }
        self.after_end(ended)
    }

    /// A link from the next God's tracer to the keeper: God's end and the keeper's. Without one, for want of
    /// descriptors, God looks into processes by itself alone.
    fn open_tracer_link(&mut self) -> Option<(RawFd, RawFd)> {
        // Closed before the next God lists its open files: God would take the socket for one of its own.
        self.trace_proxy = None;
        let (god, keeper) = tracer::pair().ok()?;
        let link = (god.into_raw_fd(), keeper.as_raw_fd());
        self.trace_proxy = Some(keeper);
        Some(link)
    }

    fn after_end(&mut self, ended: Ended) -> Next {
        match ended {
            Ended::Code(0) => self.end(0),
            Ended::Code(UPGRADE) => {
                self.upgrade();
                Next::Again
            }
            _ if UpgradeProbation::read(&self.shared_memory) == UpgradeProbation::Running => {
                self.roll_back();
                Next::Again
            }
            // A God that was never ready has reported why, and nothing depends on the daemon yet.
            Ended::Code(code) if self.shared_memory.get(Word::Ready) == 0 => self.end(code),
            Ended::Signal(_) if self.shared_memory.get(Word::Ready) == 0 => self.end(FAILURE),
            Ended::Code(_) | Ended::Signal(_) => Next::Again,
        }
    }

    /// Ends the daemon, and with it the companion and all that descends from it.
    fn end(&mut self, code: i32) -> Next {
        for pid in self.companion.take().map(|companion| tree::descendants(&[companion])).into_iter().flatten() {
            // The process may have ended in this very moment.
            let _ = tree::signal(pid, libc::SIGKILL);
        }
        Next::End(code)
    }

    /// Executes the program that God has chosen, and keeps the present program open for a return to it.
    fn upgrade(&mut self) {
        let Some(program) = self.take_slot(FdSlot::Program) else { return };
        let Ok(own) = File::open("/proc/self/exe") else { return };
        self.shared_memory.set_fd_slot(FdSlot::ProgramBefore, Some(own.as_raw_fd()));
        UpgradeProbation::Running.write(&self.shared_memory);
        // Without a guard the upgrade goes on: the guard is needed only if the new keeper dies at once.
        let _ = guard::start(&self.shared_memory, &self.home);
        self.execute(&program);
        UpgradeProbation::NotExecuted.write(&self.shared_memory);
        guard::dismiss(&self.shared_memory, self.own_pid);
        self.shared_memory.set_fd_slot(FdSlot::ProgramBefore, None);
    }

    /// Executes the program that ran before the upgrade.
    fn roll_back(&mut self) {
        UpgradeProbation::Failed.write(&self.shared_memory);
        if let Some(program) = self.take_slot(FdSlot::ProgramBefore) {
            self.execute(&program);
        }
    }

    fn take_slot(&self, slot: FdSlot) -> Option<OwnedFd> {
        let file = files::take(self.shared_memory.fd_slot(slot)?);
        self.shared_memory.set_fd_slot(slot, None);
        file
    }

    /// Does not return if it succeeds. Exits that wait in memory are sent before, since the next program has no other
    /// way to get them.
    fn execute(&mut self, program: &OwnedFd) {
        self.exits.flush();
        let _ = execute(&self.shared_memory, program, &self.home);
    }

    /// Reaps children, answers the tracer's requests and passes signals on until God has ended.
    fn wait_for_end(&mut self, god: i32) -> Ended {
        let mut all_sent = true;
        loop {
            let limit = (!all_sent).then_some(FLUSH_AGAIN);
            match self.signals.next(limit) {
                None | Some(Signal::SIGCHLD) => {}
                Some(tracer::REQUESTED) => self.trace_proxy.iter().for_each(TraceProxy::answer),
                // Fails if no init system waits for the daemon, and then nothing is to be reported.
                Some(READY) => drop(sd_notify::notify(&[sd_notify::NotifyState::Ready])),
                // God may have ended in this very moment.
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

    /// Reaps all children that have ended. One signal may stand for several of them.
    fn reap(&mut self, god: i32) -> Option<Ended> {
        let mut end_of_god = None;
        while let Some((pid, ended)) = reap::reap_one() {
            if pid == god {
                end_of_god = Some(ended);
            } else if self.companion == Some(pid) {
                self.companion = None;
                // A signal came from a person or a terminal, and is no failure of the command.
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

    fn lengthen_delay(&mut self) {
        self.delay = (self.delay * 2).clamp(FIRST_DELAY, LONGEST_DELAY);
    }

    /// Waits before the next start if more than one God in a row was short-lived. Children that end meanwhile are
    /// reaped afterwards.
    fn pause(&self) {
        if self.delay > FIRST_DELAY {
            std::thread::sleep(self.delay);
        }
    }
}

/// The first steps of God's process.
fn begin(shared_memory: Rc<SharedMemory>, fds: GodFds, keeper: i32) -> std::io::Result<Inherited> {
    // In a process group of its own: a terminal's signals reach the keeper alone, which passes each on once.
    let _ = rustix::process::setpgid(None, None);
    signals::unblock_all()?;
    Inherited::take(shared_memory, fds, keeper)
}
