//! A scratch home with a short path (the path of a socket has at most 108 bytes), and a work folder beside it.
//!
//! Dropping a home stops its daemon, and fails the test if any process of the home is left.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::deadline::Deadline;
use super::eventually::WAIT_LIMIT;
use super::listing::{self, Row};
use super::pmr::{self, Pmr, Ran};
use super::{copy_program, eventually, processes};

/// A scratch home and its work folder.
pub struct Home {
    scratch: TempDir,
    root: PathBuf,
    work: PathBuf,
    /// The binary under test, or a copy that another user can run.
    program: PathBuf,
    /// The user that owns the home, if it is not the user of the test.
    user: Option<u32>,
    /// The last field, dropped last: the end of the daemon is part of the test.
    deadline: Deadline,
}

impl Home {
    pub fn new() -> Home {
        let scratch = tempfile::Builder::new().prefix("pmr-e2e-").tempdir_in("/tmp").expect("/tmp can be written");
        let (root, work) = (scratch.path().join("home"), scratch.path().join("work"));
        std::fs::create_dir(&work).expect("the scratch folder is new");
        let deadline = Deadline::of_home(scratch.path(), &root);
        Home { scratch, root, work, program: pmr::binary(), user: None, deadline }
    }

    /// A home of another user, by user id, with a copy of the binary that this user runs. It takes root.
    #[allow(dead_code, reason = "not all targets that share these files have other users")]
    pub fn of_user(user: u32) -> Home {
        let mut home = Home::new();
        home.program = home.scratch().join("pmr");
        home.user = Some(user);
        copy_program(&pmr::binary(), &home.program);
        for path in [home.scratch(), home.work()] {
            chown(path, Some(user), Some(user)).expect("root gives away what it has");
        }
        home
    }

    /// Sets the time limit of a test that takes longer than others, from the creation of the home to its end.
    #[allow(dead_code, reason = "not all targets that share these files have long tests")]
    pub fn limit(&self, limit: Duration) {
        self.deadline.limit(limit);
    }

    /// `PMR_HOME`. The daemon creates this folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder in which commands run.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The scratch folder, which contains the home and the work folder.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file in the work folder and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.work.join(name);
        std::fs::create_dir_all(path.parent().expect("it is in the work folder")).expect("a folder can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// A command with these arguments, not yet started.
    pub fn pmr<W: Into<OsString>>(&self, words: impl IntoIterator<Item = W>) -> Pmr {
        let words = words.into_iter().map(Into::into).collect();
        let pmr = Pmr::new(&self.program, &self.root, &self.work, words);
        match self.user {
            Some(user) => pmr.by(user).env("HOME", &self.work),
            None => pmr,
        }
    }

    /// Runs a command line, split at spaces.
    pub fn run(&self, line: &str) -> Ran {
        self.pmr(line.split_whitespace()).run()
    }

    /// Runs a command line that must succeed.
    #[track_caller]
    pub fn ok(&self, line: &str) -> Ran {
        self.run(line).ok()
    }

    /// Starts a cluster whose workers serve on this port, and succeeds when they do. The two timeouts are for busy
    /// machines: with the usual ones the daemon would take slow workers for ready, or end clients that need more time.
    #[track_caller]
    pub fn serve(&self, port: u16, line: &str) -> Ran {
        let line = format!("start --listen-timeout 100s --drain-timeout 100s {line}");
        self.pmr(line.split_whitespace()).env("PORT", port.to_string()).run().ok()
    }

    /// All processes of the list.
    pub fn list(&self) -> Vec<Row> {
        let ran = self.run("jlist");
        assert!(ran.code == Some(0) && ran.err.is_empty(), "{}", ran.transcript());
        listing::parse(&ran.out)
    }

    /// The processes of an app, in the order of their ids.
    pub fn of(&self, name: &str) -> Vec<Row> {
        self.list().into_iter().filter(|row| row.name == name).collect()
    }

    /// The process of an app that has exactly one.
    #[track_caller]
    pub fn one(&self, name: &str) -> Row {
        let mut rows = self.of(name);
        assert_eq!(rows.len(), 1, "{name}: {rows:?}");
        rows.remove(0)
    }

    /// Waits until the condition holds for the processes of an app, and returns them.
    pub fn when(&self, name: &str, what: &str, wanted: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        eventually(&format!("{name}: {what}"), || {
            let rows = self.of(name);
            if wanted(&rows) { Ok(rows) } else { Err(self.run("list").out) }
        })
    }

    /// Waits until all processes of an app have this status.
    pub fn status(&self, name: &str, status: &str) -> Vec<Row> {
        self.when(name, status, |rows| !rows.is_empty() && rows.iter().all(|row| row.status == status))
    }

    /// The present content of an app's log file. A missing file counts as empty.
    pub fn log(&self, file: &str) -> String {
        let bytes = std::fs::read(self.root.join("logs").join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until an app's log contains this text, and returns the whole log.
    pub fn logged(&self, file: &str, text: &str) -> String {
        eventually(&format!("{text:?} in {file}"), || {
            let log = self.log(file);
            if log.contains(text) { Ok(log) } else { Err(log) }
        })
    }

    /// Waits until the daemon's own log contains this text, and returns the whole log.
    pub fn daemon_logged(&self, text: &str) -> String {
        self.logged("../pmr.log", text)
    }

    /// Waits until each process of an app is online and has none of these pids, which were killed or are to be
    /// replaced. Returns the processes. The pids are compared because the daemon still lists a process whose exit it
    /// has not handled yet.
    pub fn replaced(&self, name: &str, before: &[i32]) -> Vec<Row> {
        self.when(name, &format!("others than {before:?} online"), |rows| {
            !rows.is_empty() && rows.iter().all(|row| row.online() && !before.contains(&row.pid))
        })
    }

    /// The keeper's pid, from the pid file, which may be missing for a moment. After the death of a keeper the file
    /// names the dead one until God has become the keeper.
    pub fn daemon_pid(&self) -> i32 {
        eventually("the daemon's pid", || {
            let text = std::fs::read_to_string(self.root.join("pmr.pid")).map_err(|error| error.to_string())?;
            text.trim().parse().map_err(|_| text)
        })
    }

    /// Waits until the daemon has handled everything that was sent to any of its sockets and channels before.
    pub fn sync(&self) {
        for _ in 0..2 {
            self.ok("ping");
        }
    }

    /// The pid of God: the child of the keeper with the same command line.
    pub fn god_pid(&self) -> i32 {
        eventually("the keeper has one God", || {
            // Read in every round, because another process may have become the keeper.
            let keeper = self.daemon_pid();
            let own = processes::command_line(keeper);
            let is_god = |pid: &i32| !own.is_empty() && processes::command_line(*pid) == own;
            match processes::children(keeper).into_iter().filter(is_god).collect::<Vec<_>>()[..] {
                [god] => Ok(god),
                ref other => Err(format!("of {keeper}: {other:?}")),
            }
        })
    }

    /// Children of the keeper, including zombies, without God.
    pub fn children(&self) -> Vec<i32> {
        let god = self.god_pid();
        processes::children(self.daemon_pid()).into_iter().filter(|pid| *pid != god).collect()
    }

    /// Waits until no process of this home is left.
    pub fn no_process_left(&self) {
        eventually("no process of the home is left", || {
            let left = processes::of_home(&self.root);
            if left.is_empty() { Ok(()) } else { Err(describe(&left)) }
        });
    }
}

fn describe(pids: &[i32]) -> String {
    let line = |pid: &i32| format!("{pid} {:?} {}", processes::state(*pid), processes::command_line(*pid));
    pids.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Drop for Home {
    fn drop(&mut self) {
        let log = std::fs::read_to_string(self.root.join("pmr.log")).unwrap_or_default();
        if std::thread::panicking() {
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            let _ = writeln!(std::io::stderr(), "the end of the daemon's log:\n{}", tail.join("\n"));
        }
        if self.root.join("rpc.sock").exists() {
            let mut kill = std::process::Command::new(pmr::BINARY);
            kill.args(["kill", "-s"]).env("PMR_HOME", &self.root);
            if let Ok(mut child) = kill.spawn() {
                let deadline = std::time::Instant::now() + WAIT_LIMIT;
                while child.try_wait().is_ok_and(|status| status.is_none()) && std::time::Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let left = processes::of_home(&self.root);
        let lines = describe(&left);
        for pid in &left {
            processes::signal(*pid, Signal::SIGKILL);
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "processes were left behind:\n{lines}\nthe daemon's log:\n{log}");
            assert!(!log.contains("panicked"), "the daemon panicked:\n{log}");
        }
    }
}
