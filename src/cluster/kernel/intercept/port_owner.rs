//! Finds the owner of a port that a worker could not bind, for the message to the operator.

use std::fs;

use crate::os::net::diag;
use crate::os::net::reuseport::Key;
use crate::os::process::{identity, proc};

/// The longest part of a command line that is shown, in characters.
const LONGEST: usize = 60;

/// A sentence that names the port, and its owner if that can be found: `port 80 is in use by pid 17 (nginx)`.
pub(crate) fn in_use(key: &Key) -> String {
    let (port, what) = (key.address.port(), if key.tcp { "port" } else { "UDP port" });
    match owner(key) {
        Some(owner) => format!("{what} {port} is in use by {owner}"),
        None => format!("{what} {port} is in use"),
    }
}

fn owner(key: &Key) -> Option<String> {
    if !key.tcp {
        return None;
    }
    let listeners = diag::listeners(key.address.port()).ok()?;
    let listener = listeners.first()?;
    // God and the keeper have copies of other apps' sockets, but the operator looks for the program.
    let ours = [identity::pid(), identity::parent()];
    let holds = |pid: &i32| diag::sockets_of(&[*pid]).contains(&listener.inode);
    match proc::sweep().into_keys().filter(|pid| !ours.contains(pid)).find(holds) {
        Some(pid) => Some(format!("pid {pid} ({})", command(pid))),
        None if holds(&identity::pid()) => Some("another app of this daemon".to_owned()),
        None => Some(format!("a process of user {}", listener.user)),
    }
}

fn command(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
    let mut shown: String = line.trim().chars().take(LONGEST).collect();
    if line.trim().chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}
