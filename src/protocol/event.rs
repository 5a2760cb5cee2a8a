//! What happened, as published on `pub.sock`: one JSON object per line.

use serde::{Deserialize, Serialize};

use super::info::{EpochMs, Exit};

/// One event. `seq` grows by one with each event of a daemon's life, so a reader notices what it missed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the stream, from 1.
    pub seq: u64,
    /// Wall time when the daemon published it.
    pub at: EpochMs,
    /// The process it is about; `None` for events of the daemon itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<EventProcess>,
    /// The event and its data; `event` names it in the JSON object.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The process an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventProcess {
    /// PM2's `pm_id`.
    pub id: u32,
    /// Name of the app the process belongs to.
    pub name: String,
    /// Namespace of that app.
    pub namespace: String,
}

/// The client of a request: the other end of a connection to the daemon, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// User id of the connected process.
    pub uid: u32,
    /// Process id of the connected process, when it connected.
    pub pid: i32,
    /// Its command line, as far as it could be read, of at most a few hundred characters.
    pub command: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A client requested an action on a process.
    #[serde(rename = "asked")]
    Requested {
        /// The verb: `stop`, `reload`, …
        verb: String,
        /// The client that sent the request.
        by: Requester,
    },
    /// A process was added to the list.
    Created,
    /// A run began.
    Started {
        /// Pid of the main process.
        pid: i32,
    },
    /// A run could not begin.
    StartFailed {
        /// The operating system's error text.
        error: String,
    },
    /// A run is ready.
    Online,
    /// A run ended.
    Exited {
        /// The exit status of the main process.
        exit: Exit,
        /// True if the daemon had stopped the run.
        expected: bool,
    },
    /// Too many unstable exits: given up.
    Errored {
        /// The last end and the count of restarts, in words.
        reason: String,
    },
    /// The next start waits.
    WaitingRestart {
        /// For this long, in milliseconds.
        delay_ms: u64,
    },
    /// The stop of a run has begun: its drain, or its stop signal.
    Stopping,
    /// Stopped.
    Stopped,
    /// Ended by itself, with code 0, and that was all there was to do.
    Completed,
    /// A requested operation waits for other apps, by the order of start and stop, or for an earlier reload.
    Held {
        /// `waits for `db` to be ready`.
        why: String,
    },
    /// Removed from the list.
    Deleted,
    /// No client is connected: the process is stopped until the next connection.
    Idle,
    /// The worker sent no watchdog ping in time, or reported that it hangs: it is terminated and started again.
    Hung {
        /// The time it had, in milliseconds; 0 if none was set.
        timeout_ms: u64,
    },
    /// Used more memory than its limit.
    OverMemory {
        /// Bytes in use.
        bytes: u64,
        /// The `max_memory` of the app, in bytes.
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
        /// What was wrong with the new release, in words.
        reason: String,
    },
    /// It could not be replaced: what was to take its place has failed.
    NotReplaced {
        /// What was wrong with the successor, in words.
        reason: String,
        /// True if the old run goes on serving.
        old_serves: bool,
    },
    /// Nothing was wrong with its own replacement, but with another's: it is back on the previous release, or still on it.
    TakenBack,
    /// The app sent this with `process.send`.
    Message {
        /// As it was sent.
        data: serde_json::Value,
    },
    /// The app listens on a shared address.
    Listening {
        /// `[::]:3000`, `udp 0.0.0.0:53` or the path of a Unix socket.
        address: String,
    },
    /// The process list was saved.
    Saved,
    /// The daemon died, and a new one has taken over what ran.
    Recovered {
        /// How the God before ended; `None` if its exit status is not known.
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
        /// Number of events dropped, at least 1.
        count: u64,
    },
}
