//! Detects a daemon that is stopped by a signal (SIGSTOP, a debugger), and explains what to do.

use std::convert::Infallible;
use std::time::Duration;

use crate::cli::ui::Ui;
use crate::os::process::proc;
use crate::paths::Home;

/// Time between two checks whether the daemon is stopped, and before the first.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// A process of the daemon that a signal has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspended {
    pid: i32,
    keeper: bool,
}

/// The stopped one of the daemon's two processes: God, which answers requests (`peer`), or the keeper.
#[must_use]
pub fn find(home: &Home, peer: Option<i32>) -> Option<Suspended> {
    let keeper = std::fs::read_to_string(home.pid_file()).ok().and_then(|text| text.trim().parse().ok());
    let god = peer.filter(|pid| keeper != Some(*pid)).map(|pid| Suspended { pid, keeper: false });
    let keeper = keeper.map(|pid| Suspended { pid, keeper: true });
    let is_stopped =
        |suspended: &Suspended| proc::stat(suspended.pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'));
    god.into_iter().chain(keeper).find(is_stopped)
}

/// Warns once when the daemon is found stopped. Never returns.
pub async fn warn_once(home: &Home, peer: Option<i32>, ui: Ui) -> Infallible {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Some(suspended) = find(home, peer) {
            ui.warn(&format!("{}; {}", suspended.sentence(), suspended.hint()));
            return std::future::pending().await;
        }
    }
}

impl Suspended {
    /// What is wrong, as a sentence.
    #[must_use]
    pub fn sentence(self) -> String {
        let (process, effect) = match self.keeper {
            true => ("the daemon's keeper", "exits of processes are not noticed"),
            false => ("the daemon", "it cannot answer"),
        };
        format!("{process} (pid {}) was stopped by a signal, and {effect}; the apps run on", self.pid)
    }

    /// How to continue the process.
    #[must_use]
    pub fn hint(self) -> String {
        format!("`kill -CONT {}` continues it", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, waitpid};
    use nix::unistd::Pid;

    #[test]
    fn a_stopped_process_is_found_and_a_running_one_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let home = Home::new(scratch.path().into());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(find(&home, Some(pid)), None);
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(find(&home, Some(pid)), Some(Suspended { pid, keeper: false }));
        std::fs::write(home.pid_file(), pid.to_string()).unwrap();
        let suspended = find(&home, None).unwrap();
        assert!(suspended.sentence().starts_with("the daemon's keeper"), "{}", suspended.sentence());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(find(&home, None), None);
    }
}
