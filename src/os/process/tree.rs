//! Process trees: the descendants of a process, what they have open, and signals to them.

use std::fs;
use std::io;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Pids of the children of all threads of `pid`. Empty if there is no such process.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for task in tasks.flatten() {
        if let Ok(list) = fs::read_to_string(task.path().join("children")) {
            found.extend(list.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        }
    }
    found
}

/// Numbers of the threads of a process. Empty if there is no such process.
#[must_use]
pub fn threads(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// Pids of `roots` and all their descendants, parents before children.
#[must_use]
pub fn descendants(roots: &[i32]) -> Vec<i32> {
    let mut found = roots.to_vec();
    let mut at = 0;
    while at < found.len() {
        for child in children(found[at]) {
            if !found.contains(&child) {
                found.push(child);
            }
        }
        at += 1;
    }
    found
}

/// Sends a signal. A process that has ended already is no error.
///
/// # Errors
/// `EPERM`; `InvalidInput` if there is no such signal, or for pid 0.
pub fn signal(pid: i32, number: i32) -> io::Result<()> {
    let (Some(pid), Some(signal)) = (Pid::from_raw(pid), signal_from(number)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    match kill_process(pid, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal to a process group. A group that is gone already is no error. The leader must not have been reaped
/// yet: after that its number may be used again.
///
/// # Errors
/// Those of [`signal`].
pub fn signal_group(leader: i32, number: i32) -> io::Result<()> {
    let (Some(leader), Some(signal)) = (Pid::from_raw(leader), signal_from(number)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    match kill_process_group(leader, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn signal_from(number: i32) -> Option<Signal> {
    // Named signals are safe; the C library reserves the first real-time signals.
    Signal::from_named_raw(number).or_else(|| {
        let own = libc::SIGRTMIN()..=libc::SIGRTMAX();
        // SAFETY: the number lies in the range that the C library leaves to programs.
        own.contains(&number).then(|| unsafe { Signal::from_raw_unchecked(number) })
    })
}

/// True if the environment that the process was started with contains this `NAME=value`.
#[must_use]
pub fn has_variable(pid: i32, entry: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes()))
}

/// The rest of the first variable with this beginning in the environment that the process was started with.
#[must_use]
pub fn variable(pid: i32, beginning: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let rest = environ.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(beginning.as_bytes()))?;
    String::from_utf8(rest.to_owned()).ok()
}

/// Inode number of a pipe, which is the same for all processes that have an end of it open.
///
/// # Errors
/// None is known.
pub fn pipe_inode(pipe: impl std::os::fd::AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(pipe)?.st_ino)
}

/// True if standard output or error of the process is one of these pipes.
#[must_use]
pub fn writes_to(pid: i32, pipes: [u64; 2]) -> bool {
    let target = |fd: i32| fs::read_link(format!("/proc/{pid}/fd/{fd}"));
    let pipe = |fd: i32| target(fd).ok()?.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse::<u64>().ok();
    [1, 2].into_iter().filter_map(pipe).any(|inode| pipes.contains(&inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_is_found_whole_and_children_come_after_parents() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & sleep 60 & echo up; wait'"])
            .env("TREE_MARK", "yes")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = shell.stdout.take().unwrap();
        let pipe = pipe_inode(&stdout).unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let tree = descendants(&[root]);
        // `sh -c` may replace itself by its last command, so the inner shell can be the root.
        assert!(tree.len() >= 3, "{tree:?}");
        assert_eq!(tree[0], root);
        // A process that is just executing a program has no environment for a moment.
        let start = std::time::Instant::now();
        while !tree.iter().all(|pid| has_variable(*pid, "TREE_MARK=yes")) {
            assert!(start.elapsed().as_secs() < 60, "{tree:?}");
            std::thread::yield_now();
        }
        assert!(!has_variable(root, "TREE_MARK=ye"));
        assert!(tree.iter().all(|pid| writes_to(*pid, [0, pipe])) && !writes_to(root, [0, pipe + 1]));
        for pid in tree.iter().rev() {
            signal(*pid, 9).unwrap();
        }
        shell.wait().unwrap();
        assert!(children(root).is_empty());
        signal(root, 9).unwrap();
    }

    #[test]
    fn an_invalid_pid_or_signal_is_an_error() {
        assert!(signal(1, 0).is_err());
        assert!(signal(0, 9).is_err(), "0 would be the own process group");
        assert!(signal(1, 32).is_err(), "the C library's own");
    }
}
