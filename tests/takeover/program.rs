//! Starts programs under a watch, most of them small servers in Python that answer each connection with their pid.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use pmr::os::process::credentials::Credentials;
use pmr::os::process::spawn::{Confinement, Launch, spawn};
use pmr::os::process::{reap, tree};
use pmr::os::seccomp::{BindWatch, Request, ability, handover};
use pmr::os::tracer::Tracer;

use crate::deadline::{self, Deadline};

/// A step that takes longer than this fails the test.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);
const PYTHON: &str = "/usr/bin/python3";

/// Serves on `s`, a socket that listens.
pub const SERVE: &str = "
while True:
    c, _ = s.accept()
    c.sendall(b'%d\\n' % os.getpid())
    c.close()
";

/// A running program. It is killed with all its descendants when this is dropped.
pub struct Program {
    pub pid: i32,
    pub watch: BindWatch,
    stdout: File,
    ended: bool,
    _deadline: Deadline,
}

/// False if programs cannot be watched here. Prints the reason.
pub fn possible() -> bool {
    let missing = match ability::ability(None, &Tracer::direct()) {
        Ok(found) => found.obstacle().map(ToString::to_string),
        Err(error) => Some(error.to_string()),
    };
    let python = (!Path::new(PYTHON).exists()).then(|| format!("no {PYTHON}"));
    let missing = missing.or(python);
    if let Some(missing) = &missing {
        skip(missing);
    }
    missing.is_none()
}

pub fn skip(why: &str) {
    print(&format!("skipped: {why}"));
}

pub fn print(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Starts a Python script, which has imported `os`, `socket` and `sys`.
pub fn python(script: &str) -> Program {
    python_as(script, None)
}

pub fn python_as(script: &str, credentials: Option<&Credentials>) -> Program {
    start(PYTHON, &["-c", &format!("import os, socket, sys\n{script}")], credentials)
}

/// A script that serves TCP on this port of 127.0.0.1.
pub fn server(port: u16) -> String {
    format!(
        "s = socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\ns.bind(('127.0.0.1', {port}))\ns.listen(5)\n{SERVE}"
    )
}

pub fn start(program: &str, arguments: &[&str], credentials: Option<&Credentials>) -> Program {
    let (read, write) = std::io::pipe().unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let argv: Vec<_> = [program].iter().chain(arguments).map(|argument| std::ffi::OsStr::new(*argument)).collect();
    let (pending, theirs) = handover().unwrap();
    let confinement = Confinement { watch_binds: Some(theirs.as_fd()), credentials, ..Confinement::default() };
    let spawned = spawn(&Launch {
        program: Path::new(program),
        argv: &argv,
        env: &["PATH=/usr/bin:/bin".to_owned()],
        pid_slot: None,
        cwd: Path::new("/"),
        fds: &[null.as_fd(), write.as_fd(), write.as_fd()],
        sibling: false,
        confinement,
    })
    .unwrap();
    drop(theirs);
    let watch = pending.take().unwrap();
    let stdout = File::from(std::os::fd::OwnedFd::from(read));
    Program { pid: spawned.pid, watch, stdout, ended: false, _deadline: Deadline::new(None) }
}

impl Program {
    /// The program's next call; `None` when no process is left under the watch.
    pub fn next_call(&self) -> Option<Request> {
        eventually("a call", || match self.watch.next() {
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        })
    }

    /// The same without pauses between polls, for measurements.
    pub fn next_call_at_once(&self) -> Option<Request> {
        let mut polled = [rustix::event::PollFd::new(&self.watch, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, None).unwrap();
        self.next_call()
    }

    /// Waits for the program's end, reaps it and returns its output. The program must end by itself.
    pub fn output(mut self) -> String {
        let mut output = String::new();
        self.stdout.read_to_string(&mut output).unwrap();
        reap::reap(self.pid);
        self.ended = true;
        output
    }

    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            for pid in tree::descendants(&[self.pid]).into_iter().rev() {
                tree::signal(pid, 9).unwrap();
            }
            reap::reap(self.pid);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// Polls until there is a value. `what` names it if none comes within [`TIME_LIMIT`].
pub fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(start.elapsed() < TIME_LIMIT, "not in {TIME_LIMIT:?}: {what}");
        assert!(!deadline::is_over(), "the test's time is over before: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
