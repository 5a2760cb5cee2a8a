//! Starts the daemon: only one, also if several commands try at once, and without polling.
//!
//! The lock on `spawn.lock` lets one command at a time try. The command that gets it tries the socket again first,
//! because another command may have started the daemon. The daemon holds the write end of a pipe until it is ready,
//! then writes `ok` or an error; if it dies, the pipe ends without either.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Child;

use tokio::net::UnixStream;

use super::connect::{Connection, connect};
use crate::cli::failure::{Doing, Failure};
use crate::cli::home;
use crate::cli::last_lines::{indent, last_lines};
use crate::os::process::detach;
use crate::paths::Home;

/// Number of lines shown of the daemon's log when it dies.
const LAST_LINES: usize = 8;

/// Starts the daemon of this home, unless another command has started it, and connects to it.
pub async fn start_daemon(home: &Home) -> Result<UnixStream, Failure> {
    // By its own path, for `ps`; through /proc if that file has been replaced meanwhile.
    let own = std::env::current_exe().ok().filter(|path| path.exists());
    start(home, own.as_deref().unwrap_or(Path::new("/proc/self/exe"))).await
}

async fn start(home: &Home, program: &Path) -> Result<UnixStream, Failure> {
    home::prepare(home)?;
    let lock_path = home.spawn_lock();
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .doing(|| format!("opening {}", lock_path.display()))?;
    lock.lock().doing(|| format!("locking {}", lock_path.display()))?;
    if let Connection::Open(stream) = connect(home).await? {
        return Ok(stream);
    }
    launch(home, program)?;
    match connect(home).await? {
        Connection::Open(stream) => Ok(stream),
        Connection::NoDaemon => {
            Err(Failure::new("the daemon reported that it was ready, but its socket does not answer")
                .hint(format!("see {}", home.daemon_log().display())))
        }
    }
}

fn launch(home: &Home, program: &Path) -> Result<(), Failure> {
    let args = ["__daemon".as_ref(), "--home".as_ref(), home.root().as_os_str()];
    let child = detach::spawn(program, &args).doing(|| "starting the daemon".into())?;
    await_ready(child, home)
}

fn await_ready(mut child: Child, home: &Home) -> Result<(), Failure> {
    let mut report = String::new();
    let mut pipe = child.stdout.take().expect("it was started with a pipe as its standard output");
    pipe.read_to_string(&mut report).doing(|| "waiting for the daemon".into())?;
    match report.trim() {
        "ok" => Ok(()),
        "" => Err(died(&mut child, home)),
        error => Err(Failure::new(format!("the daemon could not start: {error}"))),
    }
}

fn died(child: &mut Child, home: &Home) -> Failure {
    let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let log = home.daemon_log();
    let lines = last_lines(&log, LAST_LINES);
    let message = format!("the daemon ended before it was ready ({how})");
    if lines.is_empty() {
        return Failure::new(message).hint(format!("it wrote nothing to {}", log.display()));
    }
    Failure::new(format!("{message}; the end of {}:\n{}", log.display(), indent(&lines)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn daemon_script(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_daemon_that_reports_ok_is_ready() {
        let scratch = tempfile::tempdir().unwrap();
        await_ready(daemon_script("echo ok"), &Home::new(scratch.path().into())).unwrap();
    }

    #[test]
    fn the_error_that_the_daemon_reports_is_shown() {
        let scratch = tempfile::tempdir().unwrap();
        let failure = await_ready(daemon_script("echo no space"), &Home::new(scratch.path().into())).unwrap_err();
        assert_eq!(failure.message, "the daemon could not start: no space");
    }

    #[test]
    fn the_log_of_a_daemon_that_dies_without_a_report_is_shown() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::new(scratch.path().into());
        std::fs::write(home.daemon_log(), "one\ntwo\n").unwrap();
        let failure = await_ready(daemon_script("exit 3"), &home).unwrap_err();
        assert!(failure.message.contains("exit status: 3"), "{}", failure.message);
        assert!(failure.message.ends_with("    one\n    two"), "{}", failure.message);
    }

    /// The script replaces the daemon: it moves a socket into place on which this test listens, and reports `ok`.
    #[test]
    fn two_commands_at_once_start_one_daemon() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::new(scratch.path().join("home"));
        home::prepare(&home).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(home.root().join("coming.sock")).unwrap();
        let program = scratch.path().join("daemon");
        // Written by another process: a file that this one had open for writing could be busy when it is executed.
        let write = r#"printf '%s\n' '#!/bin/sh' 'echo "$1" >> "$3/starts"' 'mv "$3/coming.sock" "$3/rpc.sock"' 'echo ok' > "$0"
            chmod +x "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(&program).status().unwrap().success());
        let start_once = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(start(&home, &program)).map(drop)
        };
        std::thread::scope(|scope| {
            let both = [scope.spawn(start_once), scope.spawn(start_once)];
            for one in both {
                one.join().unwrap().unwrap();
            }
        });
        assert_eq!(std::fs::read_to_string(home.root().join("starts")).unwrap(), "__daemon\n");
    }
}
