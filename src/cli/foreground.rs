//! `--no-daemon`: the daemon runs in this very process, and the command of the command line in a process
//! beside it, the companion.
//!
//! The companion runs the command when the daemon is ready. If the command succeeds, the companion runs `pmr logs`; if
//! it fails, the daemon shuts down. Ctrl-C reaches the daemon, which stops the apps in order, and the log reader, which
//! ends at once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, ExitCode, ExitStatus};

use super::failure::{Doing, Failure};
use super::home;
use crate::os::fs::files;
use crate::paths::Home;

/// Request to run the daemon in this process.
#[derive(Debug)]
pub struct Foreground {
    /// The home of the daemon.
    pub home: Home,
    /// True if the command was `resurrect`, which the daemon carries out itself.
    pub resurrect: bool,
    /// The command of the companion, without `--no-daemon`; empty if there is none.
    pub command: Vec<OsString>,
}

impl Foreground {
    /// Parses `args` (with the program's name). `None` unless `--no-daemon` stands before any `--`.
    #[must_use]
    pub fn from_args(args: &[OsString]) -> Option<Result<Foreground, Failure>> {
        let command = companion_command(args)?;
        let resurrect = command.len() == 1 && command[0] == "resurrect";
        let command = if resurrect { Vec::new() } else { command };
        Some(home::of_caller().and_then(|home| {
            home::prepare(&home)?;
            Ok(Foreground { home, resurrect, command })
        }))
    }
}

/// The command line without its `--no-daemon`; `None` if it has none.
fn companion_command(args: &[OsString]) -> Option<Vec<OsString>> {
    let own = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let at = args[..own].iter().position(|arg| arg == "--no-daemon")?;
    let mut command = args.to_vec();
    command.remove(at);
    command.remove(0);
    Some(command)
}

/// First argument of the companion.
pub const COMPANION: &str = "__companion";

impl Foreground {
    /// Starts the companion if there is a command for it; it waits until the daemon is ready. Returns its pid and the
    /// pipe on which the daemon reports that it is ready.
    pub fn start_companion(&self) -> Result<(Option<i32>, Option<OwnedFd>), Failure> {
        if self.command.is_empty() {
            return Ok((None, None));
        }
        let doing = || "starting the command beside the daemon".to_owned();
        let (reader, readiness) = io::pipe().doing(doing)?;
        files::inherit(&reader, true).doing(doing)?;
        let child = Command::new("/proc/self/exe")
            .arg(COMPANION)
            .arg(reader.as_raw_fd().to_string())
            .arg("--home")
            .arg(self.home.root())
            .args(&self.command)
            .spawn()
            .doing(doing)?;
        Ok((i32::try_from(child.id()).ok(), Some(readiness.into())))
    }
}

/// Runs the companion: waits until the daemon is ready, runs the command, and follows the logs. Its exit code is the
/// command's, if that failed.
#[must_use]
pub fn run_companion(args: &[OsString]) -> ExitCode {
    let pipe = args.get(2).and_then(|number| number.to_str()?.parse().ok()).and_then(files::take);
    let (Some(pipe), Some(home), Some(command)) = (pipe, args.get(4), args.get(5..)) else {
        return ExitCode::FAILURE;
    };
    let mut report = String::new();
    if File::from(pipe).read_to_string(&mut report).is_err() || report.trim() != "ok" {
        // The daemon itself prints what is wrong.
        return ExitCode::SUCCESS;
    }
    match run(command, home) {
        Ok(status) if status.success() => {
            // The exit code of the log reader does not matter: the daemon goes on.
            let _ = run(&["logs".into()], home);
            ExitCode::SUCCESS
        }
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(args: &[OsString], home: &std::ffi::OsStr) -> io::Result<ExitStatus> {
    Command::new("/proc/self/exe").args(args).env("PMR_HOME", home).status()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(args: &[&str]) -> Option<Vec<OsString>> {
        companion_command(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_companion_gets_the_command_line_without_the_flag() {
        assert_eq!(split(&["pmr", "--no-daemon"]), Some(vec![]));
        assert_eq!(split(&["pmr", "start", "--no-daemon", "a.js"]), Some(vec!["start".into(), "a.js".into()]));
        assert_eq!(split(&["pmr", "start", "a.js"]), None);
    }

    #[test]
    fn a_no_daemon_flag_of_the_app_is_left_to_the_app() {
        assert_eq!(split(&["pmr", "start", "a.js", "--", "--no-daemon"]), None);
    }
}
