//! One run of the binary: arguments, environment and directory in; exit code and both streams out.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::eventually::{WAIT_LIMIT, eventually};
use super::processes;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_pmr");

/// Variables of this test's own environment that would change what is tested.
const AMBIENT_VARIABLES: &[&str] = &["NO_COLOR", "CLICOLOR_FORCE", "pm_id", "NODE_APP_INSTANCE", "PORT", "NODE_ENV"];

/// A command about to be run.
pub struct Pmr {
    command: Command,
    words: Vec<OsString>,
    limit: Duration,
}

/// What it came to.
#[derive(Debug)]
pub struct Ran {
    pub words: Vec<OsString>,
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Pmr {
    pub fn new(program: &Path, home: &Path, cwd: &Path, words: Vec<OsString>) -> Pmr {
        let mut command = Command::new(program);
        command.args(&words).env("PMR_HOME", home).current_dir(cwd).env("PWD", cwd);
        for name in AMBIENT_VARIABLES {
            command.env_remove(name);
        }
        Pmr { command, words, limit: WAIT_LIMIT }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Pmr {
        self.command.env(name, value);
        self
    }

    pub fn within(mut self, folder: &Path) -> Pmr {
        self.command.current_dir(folder).env("PWD", folder);
        self
    }

    /// As another user, without supplementary groups.
    pub fn by(mut self, user: u32) -> Pmr {
        self.command.uid(user).gid(user);
        self
    }

    /// Runs it to its end. Fails the test if it takes too long, or if a process it left behind holds its output: a
    /// shell's `$(pmr start app.js)` would hang.
    pub fn run(self) -> Ran {
        let limit = self.limit;
        self.spawn().wait(limit)
    }

    /// Starts it and goes on.
    pub fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = execute(&mut self.command);
        let out = gather(child.stdout.take().expect("it was piped"));
        let err = gather(child.stderr.take().expect("it was piped"));
        Running { words: self.words, start, child, out, err, said: String::new(), stderr: String::new() }
    }
}

/// A file that somebody has open for writing cannot be executed.
fn execute(command: &mut Command) -> Child {
    eventually("the binary can be executed", || match command.spawn() {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => Err(error.to_string()),
        started => Ok(started.expect("the binary under test can be started")),
    })
}

/// A command that runs. Dropped, it is killed.
pub struct Running {
    words: Vec<OsString>,
    start: Instant,
    child: Child,
    out: Receiver<Vec<u8>>,
    err: Receiver<Vec<u8>>,
    said: String,
    stderr: String,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Waits until its standard output holds `text`; returns all of it so far.
    pub fn says(&mut self, text: &str) -> &str {
        let deadline = Instant::now() + WAIT_LIMIT;
        while !self.said.contains(text) {
            match self.out.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("pmr {:?} never said {text:?} ({why}), but:\n{}", self.words, self.said),
            }
        }
        &self.said
    }

    /// All it has said so far.
    pub fn said(&mut self) -> &str {
        self.said.extend(self.out.try_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        &self.said
    }

    /// Lets go of what it has said so far: what it says next is something new.
    pub fn forget(&mut self) {
        self.said();
        self.said.clear();
    }

    /// Waits for its end, for so long from now on.
    pub fn wait(mut self, limit: Duration) -> Ran {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "pmr {:?} did not end in {limit:?}", self.words);
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.start.elapsed();
        let (mut out, mut err) = (std::mem::take(&mut self.said), std::mem::take(&mut self.stderr));
        out.push_str(&rest(&self.out, &self.words));
        err.push_str(&rest(&self.err, &self.words));
        Ran { words: self.words.clone(), code: status.code(), out, err, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (to, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if to.send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    received
}

fn rest(from: &Receiver<Vec<u8>>, words: &[OsString]) -> String {
    let mut bytes = Vec::new();
    loop {
        match from.recv_timeout(WAIT_LIMIT) {
            Ok(more) => bytes.extend(more),
            Err(mpsc::RecvTimeoutError::Disconnected) => return String::from_utf8_lossy(&bytes).into_owned(),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("after the end of pmr {words:?} someone holds its output"),
        }
    }
}

impl Ran {
    /// It must have ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{}", self.transcript());
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.code(0)
    }

    /// Its standard output must hold `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.out.contains(text), "no {text:?} in the output:\n{}", self.transcript());
        self
    }

    /// It must have failed with code 1 and this text on standard error, as users expect of every error.
    #[track_caller]
    pub fn refuses(self, text: &str) -> Ran {
        assert_eq!(self.code, Some(1), "{}", self.transcript());
        self.complains(text)
    }

    /// Its standard error must hold `text`.
    #[track_caller]
    pub fn complains(self, text: &str) -> Ran {
        assert!(self.err.contains(text), "no {text:?} in the errors:\n{}", self.transcript());
        assert!(!self.err.contains("panicked"), "{}", self.transcript());
        self
    }

    pub fn transcript(&self) -> String {
        format!("pmr {:?}: {:?}\nstdout: {}\nstderr: {}", self.words, self.code, self.out, self.err)
    }
}

/// Where cargo put the binary.
pub fn binary() -> PathBuf {
    PathBuf::from(BINARY)
}
