//! The answers of the daemon: the state of processes and of the daemon, and the results of actions.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spec::{AppSpec, Env, ExecMode};

/// Milliseconds since 1970 by the wall clock. For display only: no decision depends on it.
pub type EpochMs = u64;

/// The state of a process as it is shown. Derived from the supervisor's state, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Started, not ready yet.
    Launching,
    /// Running (and ready, where readiness can be told).
    Online,
    /// Running and failing its health check.
    Unhealthy,
    /// The stop has begun, and processes of the run are still alive.
    Stopping,
    /// Not running: stopped by a request, or ended by itself and not to be restarted.
    Stopped,
    /// Ended by itself with exit code 0, and not to be restarted: its work is done.
    Completed,
    /// Not started yet: a dependency of its app does not meet its condition.
    Waiting,
    /// Not running until its restart delay or backoff has passed.
    WaitingRestart,
    /// Not running, since no client is connected: the next connection starts it.
    Idle,
    /// Given up after too many unstable exits.
    Errored,
}

impl Status {
    /// The status in lower case: PM2's spelling, where PM2 has that status.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Launching => "launching",
            Status::Online => "online",
            Status::Unhealthy => "unhealthy",
            Status::Stopping => "stopping",
            Status::Stopped => "stopped",
            Status::Completed => "completed",
            Status::Waiting => "waiting",
            Status::WaitingRestart => "waiting restart",
            Status::Idle => "idle",
            Status::Errored => "errored",
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The main process exited with this code, 0 to 255.
    Code(i32),
    /// This signal killed the main process. The number is that of this machine.
    Signal(i32),
    /// The main process ended while no daemon and no keeper waited for it: the status is lost.
    Unknown,
    /// The kernel killed the main process (by SIGKILL), since its cgroup exceeded its memory limit.
    OutOfMemory {
        /// The limit, in bytes.
        limit: u64,
    },
}

/// One row of `list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// PM2's `pm_id`. New processes count up; once the list is empty, from 0 again.
    pub id: u32,
    /// Name of its app.
    pub name: String,
    /// Namespace of its app.
    pub namespace: String,
    /// Number within the app, from 0; the value of `NODE_APP_INSTANCE`.
    pub instance: u32,
    /// Fork or cluster.
    pub mode: ExecMode,
    /// Version of the app, from the `package.json` nearest to its script; `None` if there is none.
    pub version: Option<String>,
    /// Pid of the main process of the current run, while it lives.
    pub pid: Option<i32>,
    /// Its state at the time of the request.
    pub status: Status,
    /// Restarts since creation or reset.
    pub restarts: u32,
    /// Unstable exits (sooner than `min_uptime`) within the window of `min_uptime × max_restarts`.
    pub unstable_restarts: u32,
    /// When the last run began, or was to begin; `None` before the first.
    pub started_at: Option<EpochMs>,
    /// When the process was added, or reset.
    pub created_at: EpochMs,
    /// What was wrong at the last health check; `None` if it passed.
    #[serde(default)]
    pub fault: Option<String>,
    /// True if it is unhealthy and gets no new connections, since a healthy worker of its app gets them.
    #[serde(default)]
    pub out_of_rotation: bool,
    /// How the last run ended; `None` if no run has ended yet.
    pub last_exit: Option<Exit>,
    /// Why it is not running, or why the last start failed, in a few words.
    pub reason: Option<String>,
    /// Resident bytes of the process tree; 0 when not running.
    pub memory: u64,
    /// Percent of one processor, of the process tree, since the previous reading; 0 when not running.
    pub cpu: f32,
    /// User the process runs as, by name or number as configured.
    pub user: String,
    /// The file of standard output; `None` if it is discarded.
    pub out_log: Option<PathBuf>,
    /// The file of standard error; `None` if it is discarded.
    pub err_log: Option<PathBuf>,
}

/// What `describe` shows of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The row of `list`.
    pub info: ProcessInfo,
    /// The app's spec as it is now.
    pub spec: AppSpec,
    /// The variables pmr adds for this process (`pm_id`, `NODE_APP_INSTANCE` …).
    pub own_env: Env,
    /// Path of its pid file.
    pub pid_file: PathBuf,
    /// The listeners that the daemon holds or watches for its app.
    pub listeners: Vec<ListenerInfo>,
    /// Connections that the current run has taken from the daemon so far. Those it accepts by itself are not counted.
    pub connections: u64,
    /// Of a worker that accepts by itself: connections that wait in its own queues, and those it has open. `None` of
    /// others.
    #[serde(default)]
    pub load: Option<(u32, u32)>,
    /// Why its binds cannot be intercepted, if its app needs that and the machine does not allow it.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// `process.version` of a Node worker, as the preload module reported it.
    pub node_version: Option<String>,
    /// The last `STATUS=` that it sent to `NOTIFY_SOCKET`.
    #[serde(default)]
    pub says: Option<String>,
    /// The operation on it that is under way or next.
    #[serde(default)]
    pub under_way: Option<UnderWay>,
}

/// An operation on a process that is not over, requested by a client or decided by the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// The verb: `reload`, `restart` …
    pub verb: String,
    /// How far the operation is with this process.
    pub stage: Stage,
}

impl UnderWay {
    /// True if the operation has not begun, since it waits for another app.
    #[must_use]
    pub fn waits_for_another(&self) -> bool {
        matches!(self.stage, Stage::Waits { held: Some(_) })
    }
}

/// How far an operation is with one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The operation has not begun.
    Waits {
        /// What it waits for, if another app: ``waits for `db` to be healthy``. `None` if it waits for an earlier
        /// operation on its own app.
        held: Option<String>,
    },
    /// The operation works on other processes of the app first.
    Later,
    /// The operation works on this process.
    Now,
    /// A canary serves beside it and is observed.
    Watched {
        /// Milliseconds left; `None` until the last canary is ready.
        left_ms: Option<u64>,
    },
}

/// The answer to `describe`. Apps started from one shell have the same inherited environment, which is most of the
/// bytes: it is sent once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    envs: Vec<Arc<Env>>,
    /// Each without its `base_env`, with the index of that environment in `envs`.
    processes: Vec<(usize, Description)>,
}

impl From<Vec<Description>> for Described {
    fn from(descriptions: Vec<Description>) -> Described {
        let mut envs: Vec<Arc<Env>> = Vec::new();
        let mut apart = |mut one: Description| {
            let env = std::mem::take(&mut one.spec.base_env);
            let known = envs.iter().position(|other| Arc::ptr_eq(other, &env));
            let number = known.unwrap_or_else(|| {
                envs.push(env);
                envs.len() - 1
            });
            (number, one)
        };
        let processes = descriptions.into_iter().map(&mut apart).collect();
        Described { envs, processes }
    }
}

impl From<Described> for Vec<Description> {
    fn from(Described { envs, processes }: Described) -> Vec<Description> {
        let join = |(number, mut one): (usize, Description)| {
            one.spec.base_env = envs.get(number).map(Arc::clone).unwrap_or_default();
            one
        };
        processes.into_iter().map(join).collect()
    }
}

/// One address a cluster listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// `[::]:3000`, `/run/x.sock`, `udp 0.0.0.0:53`.
    pub address: String,
    /// How connections reach the workers: `round robin`, `shared handle`, `a queue each, in turn by the kernel` …
    pub mechanism: String,
    /// How many workers are in rotation.
    pub workers: u32,
    /// Why a better mechanism is not used, if there is one.
    #[serde(default)]
    pub why: Option<String>,
    /// Connections that wait to be accepted at this address, in all its queues together.
    #[serde(default)]
    pub waiting: u32,
    /// Connections that were assigned to workers so far; `None` where the kernel does not count them.
    #[serde(default)]
    pub dealt: Option<u64>,
}

/// The daemon that answered a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon's program.
    pub version: String,
    /// Its pid: that of the keeper, which stays the same when the daemon's worker process (God) dies.
    pub pid: i32,
    /// Pid of God, the process that answers. 0 from a build that does not send it.
    #[serde(default)]
    pub god: i32,
    /// How many Gods this daemon has had so far, this one included. 0 from a build that does not send it.
    #[serde(default)]
    pub generation: u64,
    /// When the daemon started; a new God does not change it.
    pub started_at: EpochMs,
    /// Its home folder.
    pub home: PathBuf,
    /// Warnings for the operator. Empty from a build that does not send them.
    #[serde(default, rename = "standing")]
    pub warnings: DaemonWarnings,
}

/// Warnings about the daemon itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonWarnings {
    /// Set while the journal cannot be written to the disk.
    #[serde(default)]
    pub unwritten: Option<Unwritten>,
    /// When the list was saved last, if the running apps differ from it.
    #[serde(default)]
    pub unsaved: Option<EpochMs>,
}

/// A journal that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwritten {
    /// The journal's file.
    pub path: PathBuf,
    /// The error text of the operating system.
    pub error: String,
    /// When the first write failed: later changes are not in the file.
    pub since: EpochMs,
}

/// The result of an action, process by process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One line for each process touched, in order of completion.
    pub lines: Vec<ReportLine>,
    /// Remarks on the operation as a whole, as sentences without a full stop.
    pub notes: Vec<String>,
}

impl Report {
    /// True if every process reached what was requested.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.lines.iter().all(|line| matches!(line.verdict, Verdict::Done | Verdict::Planned { .. }))
    }
}

/// The result for one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// The id of the process.
    pub id: u32,
    /// The name of its app; empty if it is gone.
    pub name: String,
    /// What was done: `start`, `reload`, `stop`, `delete`, …
    pub verb: String,
    /// The result.
    pub verdict: Verdict,
}

impl ReportLine {
    /// True if the end of the error log may explain the failure: a start failed, not a stop.
    #[must_use]
    pub fn has_last_words(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. }) && self.verb != "stop" && self.verb != "delete"
    }
}

/// The result of an action for one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The process reached what was requested.
    Done,
    /// The process did not reach what was requested.
    Failed {
        /// In words: `exited with code 1 before it was ready`.
        reason: String,
        /// True if an older process of the app still serves in its place.
        old_serves: bool,
    },
    /// Nothing was done, because a dependency of the app failed.
    NotBegun {
        /// In words: `` `migrate`, on which it depends, exited with code 1 ``.
        reason: String,
        /// True if the process serves on with its present run.
        old_serves: bool,
    },
    /// A later request took the place of this one before it was done.
    Superseded {
        /// The verb of the later command.
        by: String,
    },
    /// The reload failed at another process, so this one is back on the previous release, or still on it.
    RolledBack,
    /// A dry run: nothing was done.
    Planned {
        /// What would be done.
        step: Step,
    },
}

/// What a reload would do with one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Replace it first, and watch its successor.
    Canary,
    /// Replace it by a successor that is ready first.
    Replace {
        /// The number of its wave, from 1. Processes of one wave are replaced at the same time.
        wave: u32,
    },
    /// Stop it and start it again.
    Restart,
    /// Start it.
    Start,
    /// Nothing now: it is idle, and starts with the new release when a client connects.
    Rest,
    /// Remove it.
    Remove,
}

/// The answer to `save`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The file that was written.
    pub path: PathBuf,
    /// How many apps it holds.
    pub apps: u32,
    /// How many processes it holds.
    pub processes: u32,
}
