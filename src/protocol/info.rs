//! What the daemon tells about processes and about what it did.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::spec::{AppSpec, Env, ExecMode};

/// Milliseconds since 1970, for display only: nothing is decided by it.
pub type EpochMs = u64;

/// What people see of a process's state. Derived from the supervisor's state, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Started, not ready yet.
    Launching,
    /// Running (and ready, where readiness can be told).
    Online,
    /// Running and failing its health check.
    Unhealthy,
    /// Told to stop, still running.
    Stopping,
    /// Not running, by the operator's wish or by its own final exit.
    Stopped,
    /// Ended by itself, with code 0, and that was all there was to do.
    Completed,
    /// Not started yet: an app that it depends on is not so far.
    Waiting,
    /// Waiting for its restart delay to pass.
    WaitingRestart,
    /// Not running, since nobody needs it: the next connection starts it.
    Idle,
    /// Given up after too many unstable exits.
    Errored,
}

impl Status {
    /// PM2's word for it, where PM2 has that status.
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
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It ended while no daemon watched, and nobody can tell how.
    Unknown,
    /// The kernel killed it (by SIGKILL), since it took more memory than its limit.
    OutOfMemory {
        /// The limit, in bytes.
        limit: u64,
    },
}

/// One row of `list`: everything but the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// PM2's `pm_id`.
    pub id: u32,
    /// Name of its app.
    pub name: String,
    /// Namespace of its app.
    pub namespace: String,
    /// Number within the app, what `NODE_APP_INSTANCE` says.
    pub instance: u32,
    /// Fork or cluster.
    pub mode: ExecMode,
    /// Version of the app itself.
    pub version: Option<String>,
    /// Pid of the main process while it lives.
    pub pid: Option<i32>,
    /// What people see.
    pub status: Status,
    /// Restarts since creation or reset.
    pub restarts: u32,
    /// Unstable exits that count at the moment.
    pub unstable_restarts: u32,
    /// When the last run began, or was to begin.
    pub started_at: Option<EpochMs>,
    /// When the process was added, or reset.
    pub created_at: EpochMs,
    /// What its last health check found wrong, if it did.
    #[serde(default)]
    pub fault: Option<String>,
    /// True if it is unhealthy, and new connections go to others of its app, which are not.
    #[serde(default)]
    pub out_of_rotation: bool,
    /// How the last run ended.
    pub last_exit: Option<Exit>,
    /// Why it is not running, or why the last start failed, in a few words.
    pub reason: Option<String>,
    /// Resident bytes of the process tree; 0 when not running.
    pub memory: u64,
    /// Percent of one processor, of the process tree, since the previous reading; 0 when not running.
    pub cpu: f32,
    /// User the process runs as.
    pub user: String,
    /// Where standard output goes, unless discarded.
    pub out_log: Option<PathBuf>,
    /// Where standard error goes, unless discarded.
    pub err_log: Option<PathBuf>,
}

/// Everything about one process.
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
    /// What its app listens on through the supervisor.
    pub listeners: Vec<ListenerInfo>,
    /// Connections handed to this process and answered for so far.
    pub connections: u64,
    /// Connections that wait for this process alone, and those it has open, where pmr can tell.
    #[serde(default)]
    pub load: Option<(u32, u32)>,
    /// Why its binds cannot be taken over, where its app needs that.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// `process.version` of a Node worker, if it said so.
    pub node_version: Option<String>,
    /// What it says of itself (`STATUS=` to `NOTIFY_SOCKET`).
    #[serde(default)]
    pub says: Option<String>,
    /// What is being done to it.
    #[serde(default)]
    pub under_way: Option<UnderWay>,
}

/// What somebody, or the supervisor itself, wants of a process and has not come to yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// What: `reload`, `restart` …
    pub verb: String,
    /// How far it is with this process.
    pub stage: Stage,
}

impl UnderWay {
    /// True if it has not begun, since it depends on another app.
    #[must_use]
    pub fn waits_for_another(&self) -> bool {
        matches!(self.stage, Stage::Waits { held: Some(_) })
    }
}

/// How far something is with one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// All of it waits.
    Waits {
        /// For this app, if for another: ``waits for `db` to be healthy``. Else for what is being done to its own already.
        held: Option<String>,
    },
    /// It is at other processes of the app.
    Later,
    /// It is at this one.
    Now,
    /// A canary stands beside it, and is being watched for so much longer, once all canaries are ready.
    Watched {
        /// Milliseconds left; `None` until the last canary is ready.
        left_ms: Option<u64>,
    },
}

/// What `describe` answers. Processes of one shell share their inherited environment, which is most of what there is to
/// tell: it crosses once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    envs: Vec<Arc<Env>>,
    /// Each without its `base_env`, of which the number among `envs` stands beside it.
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
    /// How connections get to the workers: `round robin`, `shared handle`, `a queue each, in turn by the kernel` …
    pub mechanism: String,
    /// How many workers take part now.
    pub workers: u32,
    /// Why it is no better mechanism, if there is one.
    #[serde(default)]
    pub why: Option<String>,
    /// Connections that wait to be accepted, with all workers and with none.
    #[serde(default)]
    pub waiting: u32,
    /// Connections that were dealt out so far, where the kernel counts them.
    #[serde(default)]
    pub dealt: Option<u64>,
}

/// The daemon that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon.
    pub version: String,
    /// Its pid: that of the keeper, which stays the same when the daemon's worker process (God) dies.
    pub pid: i32,
    /// Pid of God, the process that answers.
    #[serde(default)]
    pub god: i32,
    /// How many Gods there were so far.
    #[serde(default)]
    pub generation: u64,
    /// When it started.
    pub started_at: EpochMs,
    /// Its home.
    pub home: PathBuf,
    /// What an operator should know about the daemon. Earlier builds do not send it.
    #[serde(default, rename = "standing")]
    pub warnings: DaemonWarnings,
}

/// What an operator should know about the daemon itself, if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonWarnings {
    /// Its state cannot be written to the disk.
    #[serde(default)]
    pub unwritten: Option<Unwritten>,
    /// When the saved list was saved, if what runs is another.
    #[serde(default)]
    pub unsaved: Option<EpochMs>,
}

/// A journal that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwritten {
    /// The file.
    pub path: PathBuf,
    /// The system's words.
    pub error: String,
    /// From when on changes are not in it.
    pub since: EpochMs,
}

/// What became of an action, process by process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One line for each process touched, in order of completion.
    pub lines: Vec<ReportLine>,
    /// What the operation as a whole came to, where it is not the sum of its lines: superseded, or rolled back.
    pub notes: Vec<String>,
}

impl Report {
    /// True if every process came to what was asked.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.lines.iter().all(|line| matches!(line.verdict, Verdict::Done | Verdict::Planned { .. }))
    }
}

/// What became of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// Its id.
    pub id: u32,
    /// Its app's name.
    pub name: String,
    /// What was done: `start`, `reload`, `stop`, `delete`, …
    pub verb: String,
    /// How it went.
    pub verdict: Verdict,
}

impl ReportLine {
    /// True if the process may have told in its error log why it failed.
    #[must_use]
    pub fn has_last_words(&self) -> bool {
        matches!(self.verdict, Verdict::Failed { .. }) && self.verb != "stop" && self.verb != "delete"
    }
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As asked.
    Done,
    /// Not as asked, and why.
    Failed {
        /// In words: `exited with code 1 before it was ready`.
        reason: String,
        /// True if an older process of the app still serves in its place.
        old_serves: bool,
    },
    /// Nothing was done, because of another app that it depends on.
    NotBegun {
        /// In words: `` `migrate`, on which it depends, exited with code 1 ``.
        reason: String,
        /// True if it serves on as it did.
        old_serves: bool,
    },
    /// A later command took over before it was done.
    Superseded {
        /// The verb of the later command.
        by: String,
    },
    /// Another process failed, so this one is back on the release before, or still on it.
    RolledBack,
    /// Nothing was done; this would be.
    Planned {
        /// What.
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
        /// With others of its wave; the first is 1.
        wave: u32,
    },
    /// Stop it and start it again.
    Restart,
    /// Start it.
    Start,
    /// Nothing: it rests, and will be as asked when somebody needs it.
    Rest,
    /// Remove it.
    Remove,
}

/// What `save` wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The file.
    pub path: PathBuf,
    /// How many apps it holds.
    pub apps: u32,
    /// How many processes.
    pub processes: u32,
}
