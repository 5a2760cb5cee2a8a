//! Which input met which state: a hole in this table is a hole in the proof.

use std::fmt::Write as _;

use crate::protocol::Action;
use crate::supervisor::{Goal, Process, Request, State, StopStage};

const ROWS: [&str; 12] = [
    "Stopped",
    "Launching",
    "Launching, unready for good",
    "Launching, old serves",
    "Online",
    "Stopping, draining",
    "Stopping, to stay down",
    "Stopping, to come back",
    "Waiting",
    "Errored",
    "Idle",
    "Canary",
];

/// Inputs, as columns of the table.
#[derive(Clone, Copy)]
pub enum Column {
    Launch,
    Start,
    Restart,
    Reload,
    Stop,
    Delete,
    Scale,
    Other,
    Restore,
    ShutDown,
    Spawned,
    SpawnFailed,
    Ready,
    Drained,
    Exited,
    TreeExited,
    Checked,
    Sampled,
    WatchdogPing,
    Idle,
    Demand,
    Tick,
    Crash,
}

const COLUMNS: [&str; 23] = [
    "launch", "start", "restart", "reload", "stop", "delete", "scale", "other", "restore", "shutdwn", "Spawned",
    "SpFail", "Ready", "Drained", "Exited", "TreeExit", "Checked", "Sampled", "Ping", "Idle", "Demand", "Tick",
    "Crash",
];

/// Cells that cannot be met, with the reason. The inputs are columns `from..=to`.
const UNREACHABLE: [(&str, Column, Column, &str); 1] =
    [("Stopped", Column::Spawned, Column::WatchdogPing, "a stopped process has no run that could be heard of")];

/// Cells that chance seldom meets: the news is of a replaced run that is still on its way out while its process has
/// moved on twice. The table tests of processes meet each.
const RARE: &[(&str, Column)] = &[
    ("Launching, unready for good", Column::Drained),
    // A few times in twenty thousand histories.
    ("Canary", Column::Drained),
    ("Launching, old serves", Column::Drained),
    ("Waiting", Column::Spawned),
    ("Waiting", Column::SpawnFailed),
    ("Errored", Column::Spawned),
    ("Errored", Column::SpawnFailed),
    ("Errored", Column::Sampled),
    ("Waiting", Column::WatchdogPing),
    ("Errored", Column::WatchdogPing),
    ("Idle", Column::Spawned),
    ("Idle", Column::SpawnFailed),
    ("Idle", Column::Ready),
    ("Idle", Column::Drained),
    ("Idle", Column::Exited),
    ("Idle", Column::TreeExited),
    ("Idle", Column::Sampled),
    ("Idle", Column::WatchdogPing),
    ("Idle", Column::Checked),
    ("Errored", Column::Checked),
];

/// Counts of inputs by the state of the process they are about.
#[derive(Clone, Default)]
pub struct Coverage([[u64; COLUMNS.len()]; ROWS.len()], Cases);

/// How often something was so that no single process shows.
#[derive(Clone, Copy, Default)]
struct Cases {
    /// Of an app's ready processes some were ill, and ejected.
    ejected: u64,
    /// All were ill, and none was.
    all_ill: u64,
    /// An app was left as it was since the reload of another failed.
    spared: u64,
}

impl Cases {
    fn all(&self) -> [(u64, &'static str); 3] {
        [(self.ejected, "some ejected"), (self.all_ill, "all ill"), (self.spared, "left as it was")]
    }
}

impl Coverage {
    pub fn note(&mut self, process: &Process, input: Column) {
        self.0[row(process)][input as usize] += 1;
    }

    pub fn add(&mut self, other: &Coverage) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *mine += theirs;
        }
        self.1.ejected += other.1.ejected;
        self.1.all_ill += other.1.all_ill;
        self.1.spared += other.1.spared;
    }

    /// So many of an app are ready, ill, and in rotation.
    pub fn rotation(&mut self, ready: usize, ill: usize, rotate: usize) {
        self.1.ejected += u64::from(rotate < ready);
        self.1.all_ill += u64::from(ready > 1 && ill == ready);
    }

    /// So many apps were left as they were by a reload.
    pub fn spared(&mut self, apps: usize) {
        self.1.spared += apps as u64;
    }

    /// Cells that ought to have been met and were not.
    pub fn holes(&self) -> Vec<String> {
        let cells = (0..ROWS.len()).flat_map(|row| (0..COLUMNS.len()).map(move |column| (row, column)));
        let rare =
            |row: usize, column: usize| RARE.iter().any(|(name, rare)| *name == ROWS[row] && *rare as usize == column);
        let expected = |row: usize, column: usize| reason(row, column).is_none() && !rare(row, column);
        let missed = cells.filter(|(row, column)| self.0[*row][*column] == 0 && expected(*row, *column));
        let missed = missed.map(|(row, column)| format!("{} × {}", ROWS[row], COLUMNS[column]));
        let cases = self.1.all().into_iter().filter(|(count, _)| *count == 0).map(|(_, what)| what.to_owned());
        missed.chain(cases).collect()
    }

    /// Cells that were said to be out of reach and were met all the same.
    pub fn unexpected(&self) -> Vec<String> {
        let cells = (0..ROWS.len()).flat_map(|row| (0..COLUMNS.len()).map(move |column| (row, column)));
        let met = cells.filter(|(row, column)| self.0[*row][*column] > 0 && reason(*row, *column).is_some());
        met.map(|(row, column)| format!("{} × {}", ROWS[row], COLUMNS[column])).collect()
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:28}", "");
        for name in COLUMNS {
            let _ = write!(text, "{name:>9}");
        }
        for (row, name) in ROWS.iter().enumerate() {
            let _ = write!(text, "\n{name:28}");
            for (column, count) in self.0[row].iter().enumerate() {
                let cell = if reason(row, column).is_some() { "-".to_owned() } else { count.to_string() };
                let _ = write!(text, "{cell:>9}");
            }
        }
        for (count, what) in self.1.all() {
            let _ = write!(text, "\n{what}: {count}");
        }
        for (row, from, to, why) in UNREACHABLE {
            let _ = write!(text, "\n- {row} × {}..{}: {why}", COLUMNS[from as usize], COLUMNS[to as usize]);
        }
        text
    }
}

/// Why a cell cannot be met.
fn reason(row: usize, column: usize) -> Option<&'static str> {
    let hit = UNREACHABLE
        .iter()
        .find(|(name, from, to, _)| *name == ROWS[row] && (*from as usize..=*to as usize).contains(&column));
    hit.map(|(.., why)| *why)
}

fn row(process: &Process) -> usize {
    match &process.state {
        State::Stopped => 0,
        State::Launching { old: None, ready_by: Some(_), .. } => 1,
        State::Launching { old: None, ready_by: None, .. } => 2,
        State::Launching { old: Some(_), .. } => 3,
        State::Online(_) => 4,
        State::Stopping(stopping) if matches!(stopping.stage, StopStage::Draining { .. }) => 5,
        State::Stopping(_) if process.goal != Goal::Up => 6,
        State::Stopping(_) => 7,
        State::Waiting { .. } => 8,
        State::Errored => 9,
        State::Idle => 10,
        State::Canary { .. } => 11,
    }
}

/// The column of a request.
pub fn column(ask: &Request) -> Column {
    match ask {
        Request::Launch { .. } => Column::Launch,
        Request::Restore(_) => Column::Restore,
        Request::ShutDown => Column::ShutDown,
        Request::Act { action, .. } => match action {
            Action::Start(_) => Column::Start,
            Action::Restart(_) => Column::Restart,
            Action::Reload { .. } => Column::Reload,
            Action::Stop => Column::Stop,
            Action::Delete => Column::Delete,
            Action::Scale(_) => Column::Scale,
            Action::Reset | Action::Signal(_) | Action::Flush | Action::ReopenLogs => Column::Other,
        },
    }
}
