//! Starting the daemon: one, whoever else is at it, and without polling.
//!
//! The lock on `spawn.lock` lets one command line at a time try. Who gets it tries the socket again first, since
//! another may have been faster. The daemon keeps the write end of a pipe until it is ready, then writes `ok`, or what
//! went wrong; if it dies the pipe ends without a word.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Child;

use tokio::net::UnixStream;

use super::failure::{Doing, Failure};
use super::home;
use super::reach::{Reached, reach};
use crate::os::process::detach;
use crate::paths::Home;

/// How many lines of the daemon's log are shown when it dies.
const LAST_WORDS: usize = 8;

/// A connection to the daemon of this home, which is started unless somebody else was faster.
pub async fn start_daemon(home: &Home) -> Result<UnixStream, Failure> {
    // By its own name, for `ps`; where that file has been replaced meanwhile, by what is running.
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
    if let Reached::Daemon(stream) = reach(home).await? {
        return Ok(stream);
    }
    launch(home, program)?;
    match reach(home).await? {
        Reached::Daemon(stream) => Ok(stream),
        Reached::Nobody => Err(Failure::new("the daemon said it was ready, but its socket does not answer")
            .hint(format!("see {}", home.daemon_log().display()))),
    }
}

fn launch(home: &Home, program: &Path) -> Result<(), Failure> {
    let args = ["__daemon".as_ref(), "--home".as_ref(), home.root().as_os_str()];
    let child = detach::spawn(program, &args).doing(|| "starting the daemon".into())?;
    await_ready(child, home)
}

fn await_ready(mut child: Child, home: &Home) -> Result<(), Failure> {
    let mut said = String::new();
    let mut pipe = child.stdout.take().expect("it was started with a pipe as its standard output");
    pipe.read_to_string(&mut said).doing(|| "waiting for the daemon".into())?;
    match said.trim() {
        "ok" => Ok(()),
        "" => Err(died(&mut child, home)),
        error => Err(Failure::new(format!("the daemon could not start: {error}"))),
    }
}

fn died(child: &mut Child, home: &Home) -> Failure {
    let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let log = home.daemon_log();
    let words = last_lines(&log, LAST_WORDS);
    let message = format!("the daemon ended before it was ready ({how})");
    if words.is_empty() {
        return Failure::new(message).hint(format!("it wrote nothing to {}", log.display()));
    }
    Failure::new(format!("{message}; the end of {}:\n{}", log.display(), indent(&words)))
}

/// The last lines of a file, as far as they lie in its last 64 KiB; none if it cannot be read.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    last_lines_from(path, count, 0)
}

/// The same of what comes after so many bytes; of all, where the file has been emptied or begun anew since it was so long.
#[must_use]
pub fn last_lines_from(path: &Path, count: usize, from: u64) -> Vec<String> {
    let mut tail = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        let from = if from > end { 0 } else { from };
        file.seek(SeekFrom::Start(end.saturating_sub(64 << 10).max(from)))?;
        file.take(64 << 10).read_to_end(&mut tail)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Lines set in under a sentence.
#[must_use]
pub fn indent(lines: &[String]) -> String {
    lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn saying(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_daemon_that_says_ok_is_ready() {
        let scratch = tempfile::tempdir().unwrap();
        await_ready(saying("echo ok"), &Home::new(scratch.path().into())).unwrap();
    }

    #[test]
    fn a_daemon_that_says_why_not_is_quoted() {
        let scratch = tempfile::tempdir().unwrap();
        let failure = await_ready(saying("echo no space"), &Home::new(scratch.path().into())).unwrap_err();
        assert_eq!(failure.message, "the daemon could not start: no space");
    }

    #[test]
    fn of_a_daemon_that_dies_silently_the_log_is_shown() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::new(scratch.path().into());
        std::fs::write(home.daemon_log(), "one\ntwo\n").unwrap();
        let failure = await_ready(saying("exit 3"), &home).unwrap_err();
        assert!(failure.message.contains("exit status: 3"), "{}", failure.message);
        assert!(failure.message.ends_with("    one\n    two"), "{}", failure.message);
    }

    /// The script stands in for the daemon: it puts a socket in place on which this test listens, and says so.
    #[test]
    fn two_at_once_start_one_daemon() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::new(scratch.path().join("home"));
        home::prepare(&home).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(home.root().join("coming.sock")).unwrap();
        let program = scratch.path().join("daemon");
        // Written by another process: a file that this one had open for writing could be busy when it is executed.
        let write = r#"printf '%s\n' '#!/bin/sh' 'echo "$1" >> "$3/starts"' 'mv "$3/coming.sock" "$3/rpc.sock"' 'echo ok' > "$0"
            chmod +x "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(&program).status().unwrap().success());
        let connect = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(start(&home, &program)).map(drop)
        };
        std::thread::scope(|scope| {
            let both = [scope.spawn(connect), scope.spawn(connect)];
            for one in both {
                one.join().unwrap().unwrap();
            }
        });
        assert_eq!(std::fs::read_to_string(home.root().join("starts")).unwrap(), "__daemon\n");
    }

    #[test]
    fn only_the_last_lines_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(last_lines(file.path(), 2), ["line 19998", "line 19999"]);
    }
}
