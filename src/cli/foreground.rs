//! `--no-daemon`: the daemon in this very process, and the command that was typed as a child beside it.
//!
//! The child runs when the daemon is ready; if it succeeds its place is taken by `pmr logs`, if it fails the daemon is
//! told to end. Ctrl-C reaches the daemon, which stops the apps in order, and the log reader, which just ends.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::failure::Failure;
use super::home;
use crate::paths::Home;

/// The daemon is to run in this process.
#[derive(Debug)]
pub struct Foreground {
    /// Its home.
    pub home: Home,
    /// The command was `resurrect`: the daemon does that by itself.
    pub resurrect: bool,
    /// What to run beside it, without `--no-daemon`; empty for nothing.
    pub command: Vec<OsString>,
}

impl Foreground {
    /// What `args` (with the program's name) ask for, if `--no-daemon` stands before any `--`.
    #[must_use]
    pub fn asked_for(args: &[OsString]) -> Option<Result<Foreground, Failure>> {
        let command = beside(args)?;
        let resurrect = command.len() == 1 && command[0] == "resurrect";
        let command = if resurrect { Vec::new() } else { command };
        Some(home::of_caller().and_then(|home| {
            home::prepare(&home)?;
            Ok(Foreground { home, resurrect, command })
        }))
    }
}

/// What is left of a command line without its `--no-daemon`, if it has one.
fn beside(args: &[OsString]) -> Option<Vec<OsString>> {
    let own = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let at = args[..own].iter().position(|arg| arg == "--no-daemon")?;
    let mut command = args.to_vec();
    command.remove(at);
    command.remove(0);
    Some(command)
}

/// What runs beside a daemon in the foreground.
pub struct Companion {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    failed: Option<ExitCode>,
    ended: bool,
}

impl Companion {
    /// Waits beside the daemon until it is ready, then runs `command`, then follows the logs. The fd is for the
    /// daemon, to say that it is ready.
    #[must_use]
    pub fn start(command: Vec<OsString>, home: &Home) -> (Companion, Option<OwnedFd>) {
        let companion = Companion { state: Arc::default() };
        if command.is_empty() {
            return (companion, None);
        }
        let Ok((news, readiness)) = io::pipe() else {
            return (companion, None);
        };
        let state = Arc::clone(&companion.state);
        let root = home.root().as_os_str().to_owned();
        thread::spawn(move || accompany(&state, news, &command, &root));
        (companion, Some(readiness.into()))
    }

    /// The daemon has ended: whatever still runs beside it ends too. The exit code if the command had failed.
    #[must_use]
    pub fn end(self) -> Option<ExitCode> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        if let Some(child) = &mut state.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        state.failed
    }
}

fn accompany(state: &Mutex<State>, mut news: io::PipeReader, command: &[OsString], home: &std::ffi::OsStr) {
    let mut said = String::new();
    if news.read_to_string(&mut said).is_err() || said.trim() != "ok" {
        return;
    }
    match run(state, command, home) {
        Some(status) if status.success() => drop(run(state, &["logs".into()], home)),
        Some(status) => give_up(state, status),
        None => {}
    }
}

/// Runs `pmr args…` to its end, unless the daemon has ended before.
fn run(state: &Mutex<State>, args: &[OsString], home: &std::ffi::OsStr) -> Option<ExitStatus> {
    let pid = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return None;
        }
        let child = Command::new("/proc/self/exe").args(args).env("PMR_HOME", home).spawn().ok()?;
        state.child.insert(child).id()
    };
    // The lock is free while the child runs, so that `end` can kill it: wait for it to become reapable first.
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    let exited = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    let _ = rustix::process::waitid(rustix::process::WaitId::Pid(pid), exited);
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.child.take()?.wait().ok()
}

fn give_up(state: &Mutex<State>, status: ExitStatus) {
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    state.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(ExitCode::from(code));
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(args: &[&str]) -> Option<Vec<OsString>> {
        beside(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_is_what_is_left_without_the_flag() {
        assert_eq!(split(&["pmr", "--no-daemon"]), Some(vec![]));
        assert_eq!(split(&["pmr", "start", "--no-daemon", "a.js"]), Some(vec!["start".into(), "a.js".into()]));
        assert_eq!(split(&["pmr", "start", "a.js"]), None);
    }

    #[test]
    fn an_argument_of_the_app_is_no_wish_of_ours() {
        assert_eq!(split(&["pmr", "start", "a.js", "--", "--no-daemon"]), None);
    }
}
