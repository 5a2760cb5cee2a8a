//! What happened, as published on `pub.sock`: one JSON object per line.

use serde::{Deserialize, Serialize};

use super::info::{EpochMs, Exit};

/// One event. `seq` grows by one with each event of a daemon's life, so a reader can tell what it missed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the stream, from 1.
    pub seq: u64,
    /// When.
    pub at: EpochMs,
    /// Which process, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<EventProcess>,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The process an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventProcess {
    /// Its id.
    pub id: u32,
    /// Its app's name.
    pub name: String,
    /// Its app's namespace.
    pub namespace: String,
}

/// Who asked: the other end of a connection to the daemon, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// User.
    pub uid: u32,
    /// Process.
    pub pid: i32,
    /// Its command line, as far as it could be read, of at most a few hundred characters.
    pub command: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody asked for something to be done to a process.
    #[serde(rename = "asked")]
    Requested {
        /// What: `stop`, `reload`, …
        verb: String,
        /// Who.
        by: Requester,
    },
    /// A process was added to the list.
    Created,
    /// A run began.
    Started {
        /// Its pid.
        pid: i32,
    },
    /// A run could not begin.
    StartFailed {
        /// Why.
        error: String,
    },
    /// A run is ready.
    Online,
    /// A run ended.
    Exited {
        /// How.
        exit: Exit,
        /// True if it had been told to.
        expected: bool,
    },
    /// Too many unstable exits: given up.
    Errored {
        /// Why.
        reason: String,
    },
    /// The next start waits.
    WaitingRestart {
        /// For this long, in milliseconds.
        delay_ms: u64,
    },
    /// Told to stop.
    Stopping,
    /// Stopped.
    Stopped,
    /// Ended by itself, with code 0, and that was all there was to do.
    Completed,
    /// What was asked for waits for other apps, as the order of start and stop wants it.
    Held {
        /// `waits for `db` to be ready`.
        why: String,
    },
    /// Removed from the list.
    Deleted,
    /// Nobody needs it: stopped until a connection comes.
    Idle,
    /// Did not say in time that it is alive, or said that it hangs: it is ended, and started again.
    Hung {
        /// The time it had, in milliseconds; 0 if none was set.
        timeout_ms: u64,
    },
    /// Used more memory than its limit.
    OverMemory {
        /// Bytes in use.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The run fails its health check.
    Unhealthy {
        /// What was wrong with it last.
        reason: String,
    },
    /// The run passes its health check again.
    Healthy,
    /// The run is one of the few that try a new release out.
    Canary {
        /// How long canaries are observed before the rest follows, in milliseconds.
        #[serde(rename = "watch_ms")]
        duration_ms: u64,
    },
    /// A new release failed: back to the one before.
    RollingBack {
        /// Why.
        reason: String,
    },
    /// It could not be replaced: what was to take its place has failed.
    NotReplaced {
        /// Why.
        reason: String,
        /// True if the old run goes on serving.
        old_serves: bool,
    },
    /// Nothing was wrong with its own replacement, but with another's: it is back on the release before, or still on it.
    TakenBack,
    /// The app sent this with `process.send`.
    Message {
        /// As it was sent.
        data: serde_json::Value,
    },
    /// The app listens on a shared address.
    Listening {
        /// Which.
        address: String,
    },
    /// The process list was saved.
    Saved,
    /// The daemon died, and a new one has taken over what ran.
    Recovered {
        /// How the one before ended; `None` if nobody saw.
        after: Option<Exit>,
        /// From its end to now, in milliseconds.
        gap_ms: u64,
        /// How many runs went on.
        runs: u32,
    },
    /// The daemon is about to end.
    ShuttingDown,
    /// This reader was too slow: so many events before this one were dropped.
    Lost {
        /// How many.
        count: u64,
    },
}
