//! One run of the binary: arguments, environment and directory in, exit code and both streams out.

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

/// Variables in the environment of the test that would change the behaviour under test.
const AMBIENT_VARIABLES: &[&str] = &["NO_COLOR", "CLICOLOR_FORCE", "pm_id", "NODE_APP_INSTANCE", "PORT", "NODE_ENV"];

/// A command that is not started yet.
pub struct Pmr {
    command: Command,
    words: Vec<OsString>,
    limit: Duration,
}

/// The outcome of a command.
#[derive(Debug)]
pub struct Ran {
    pub words: Vec<OsString>,
    /// `None` if a signal ended the command.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Pmr {
    pub fn new(program: &Path, home: &Path, cwd: &Path, words: Vec<OsString>) -> Pmr {
        let mut command = with_default_signals(program);
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

    /// Runs the command as another user, without supplementary groups.
    pub fn by(mut self, user: u32) -> Pmr {
        self.command.uid(user).gid(user);
        self
    }

    /// Runs the command to its end. Fails the test if the command takes too long, or if a process that it left behind
    /// holds its output: a shell's `$(pmr start app.js)` would hang.
    pub fn run(self) -> Ran {
        let limit = self.limit;
        self.spawn().wait(limit)
    }

    /// Starts the command and does not wait for its end.
    pub fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = execute(&mut self.command);
        let out = collect(child.stdout.take().expect("it was piped"));
        let err = collect(child.stderr.take().expect("it was piped"));
        Running { words: self.words, start, child, out, err, said: String::new(), stderr: String::new() }
    }
}

/// A command that ends by Ctrl-C and a hang-up, also where the tests ignore these signals: a shell that runs them in the
/// background, `trap '' INT` and `nohup` make all their descendants ignore them.
fn with_default_signals(program: &Path) -> Command {
    // Bit N - 1 stands for signal N.
    const INT_AND_HUP: u64 = 1 << (libc::SIGINT - 1) | 1 << (libc::SIGHUP - 1);
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("the ignored signals");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask in hexadecimal digits");
    if ignored & INT_AND_HUP == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,HUP").arg(program);
    command
}

/// Executes a command. While another process has the program open for writing, execution fails and is tried again.
fn execute(command: &mut Command) -> Child {
    eventually("the binary can be executed", || match command.spawn() {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => Err(error.to_string()),
        started => Ok(started.expect("the binary under test can be started")),
    })
}

/// A running command, killed when dropped.
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

    /// Waits until the standard output contains `text`. Returns the output so far.
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

    /// The standard output so far.
    pub fn said(&mut self) -> &str {
        self.said.extend(self.out.try_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        &self.said
    }

    /// Discards the standard output so far, so that later output can be told apart.
    pub fn forget(&mut self) {
        self.said();
        self.said.clear();
    }

    /// Waits for the end of the command, at most for this long.
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

fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
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
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("after the end of pmr {words:?} a process still holds its output")
            }
        }
    }
}

impl Ran {
    /// Asserts that the command ended with this exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{}", self.transcript());
        self
    }

    /// Asserts that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.code(0)
    }

    /// Asserts that the standard output contains `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.out.contains(text), "no {text:?} in the output:\n{}", self.transcript());
        self
    }

    /// Asserts that the command failed with exit code 1 and this text on standard error, as every error does.
    #[track_caller]
    pub fn refuses(self, text: &str) -> Ran {
        assert_eq!(self.code, Some(1), "{}", self.transcript());
        self.complains(text)
    }

    /// Asserts that the standard error contains `text`, and no panic.
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

/// The path of the binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(BINARY)
}
