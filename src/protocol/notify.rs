//! The messages of a process to `NOTIFY_SOCKET`, as in `sd_notify(3)`: assignments, one a line, in one datagram.
//!
//! | assignment | what comes of it |
//! |---|---|
//! | `READY=1` | it is ready |
//! | `RELOADING=1`, `STATUS=…` | `describe` shows it, until the next `READY=1`, or the next `STATUS` |
//! | `STOPPING=1` | nothing new goes to it |
//! | `WATCHDOG=1` | it is alive |
//! | `WATCHDOG=trigger` | it has failed |
//! | `MAINPID=…` | another process of its tree stands for it from now on |
//! | `BARRIER=1` | all earlier messages have been handled: the descriptor that came with it is closed |
//!
//! Everything else is passed over, as the protocol wants: `EXTEND_TIMEOUT_USEC` and `WATCHDOG_USEC`, since times are the
//! owner's to set; `FDSTORE`, since its sockets are held for it anyway; `ERRNO` and the like. Descriptors are closed.

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It has started, or its reload is done.
    Ready,
    /// It reads its settings anew.
    Reloading,
    /// It is on its way out.
    Stopping,
    /// What it does at the moment.
    Status(String),
    /// It is alive.
    WatchdogPing,
    /// It knows itself that it hangs.
    WatchdogTrigger,
    /// Which process is the main one.
    MainPid(i32),
}

/// The longest text of a status that is kept, in characters.
const LONGEST_STATUS: usize = 500;

/// Reads a datagram. Assignments that cannot be read are left out.
#[must_use]
pub fn read(datagram: &[u8]) -> Vec<Note> {
    let text = String::from_utf8_lossy(datagram);
    text.lines().filter_map(|line| note(line.trim_end_matches('\0'))).collect()
}

fn note(line: &str) -> Option<Note> {
    match line.split_once('=')? {
        ("READY", "1") => Some(Note::Ready),
        ("RELOADING", "1") => Some(Note::Reloading),
        ("STOPPING", "1") => Some(Note::Stopping),
        ("WATCHDOG", "1") => Some(Note::WatchdogPing),
        ("WATCHDOG", "trigger") => Some(Note::WatchdogTrigger),
        ("STATUS", text) => Some(Note::Status(text.chars().filter(|c| !c.is_control()).take(LONGEST_STATUS).collect())),
        ("MAINPID", pid) => pid.parse().ok().filter(|pid| *pid > 0).map(Note::MainPid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_in_order_and_the_rest_is_ignored() {
        let said = read(b"READY=1\nSTATUS=Serving 3 \x1b[0mclients\nMAINPID=17\nX_OWN=1\nFDSTORE=1\n");
        assert_eq!(said, [Note::Ready, Note::Status("Serving 3 [0mclients".to_owned()), Note::MainPid(17)]);
        assert_eq!(read(b"RELOADING=1\nMONOTONIC_USEC=7"), [Note::Reloading]);
        assert_eq!(read(b"STOPPING=1"), [Note::Stopping]);
        assert_eq!(read(b"WATCHDOG=1\0"), [Note::WatchdogPing]);
        assert_eq!(read(b"WATCHDOG=trigger"), [Note::WatchdogTrigger]);
    }

    #[test]
    fn an_unreadable_datagram_has_no_assignments() {
        let long = format!("STATUS={}", "x".repeat(2000));
        assert_eq!(read(long.as_bytes()), [Note::Status("x".repeat(LONGEST_STATUS))]);
        for text in ["", "READY", "READY=0", "READY=11", "=1", "MAINPID=-4", "MAINPID=x", "MAINPID=0", "\u{ff}\n\n"] {
            assert_eq!(read(text.as_bytes()), [], "{text:?}");
        }
        assert_eq!(read(b"\xff\xfe=\xff\nREADY=1"), [Note::Ready]);
    }
}
