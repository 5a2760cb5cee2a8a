//! The steps of a walk.

use std::time::Duration;

use fastrand::Rng;

/// A fault that is injected, or a request to the daemon.
#[derive(Clone, Debug)]
pub enum Step {
    KillGod,
    /// Kills several Gods, each as soon as it answers.
    KillGods(u8),
    KillKeeper,
    /// Kills the keeper, and God after this pause.
    KillKeeperThenGod(Duration),
    KillWorker(usize),
    KillApp(&'static str),
    Update,
    UpdateToCopy,
    Command(Command),
    /// A command runs, and God is killed after this time.
    KillDuring(Command, Duration),
    /// A command runs while the daemon is updated.
    UpdateDuring(Command),
    Freeze(Duration),
    FullDisk,
    /// God is killed while the disk is full.
    KillOnFullDisk,
    /// The next God dies at this kill point, which the command reaches.
    Point(&'static str, Command),
}

/// A request to the daemon. Each of them may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Reload,
    Scale(usize),
    StopAndStart(&'static str),
    Restart(&'static str),
}

/// Names of the apps with one process.
pub const SINGLES: [&str; 4] = ["shell", "python", "forest", "stubborn"];

const POINTS: [&str; 15] = [
    "decided",
    "written-down",
    "spawned",
    "terminating",
    "told-to-stop",
    "reaped",
    "recovering",
    "recovered",
    "ledger-written",
    "ledger-started",
    "accepted",
    "handing",
    "handed",
    "heard",
    "spliced",
];

impl Command {
    fn random(rng: &mut Rng) -> Command {
        let single = SINGLES[rng.usize(..SINGLES.len())];
        match rng.u8(..7) {
            0 | 1 => Command::Reload,
            2 | 3 => Command::Scale(rng.usize(2..=4)),
            4 => Command::StopAndStart(single),
            _ => Command::Restart(single),
        }
    }
}

impl Step {
    pub fn random(rng: &mut Rng) -> Step {
        let moment = |rng: &mut Rng, most| Duration::from_micros(rng.u64(..most));
        match rng.u8(..36) {
            0..5 => Step::KillGod,
            5..7 => Step::KillGods(rng.u8(2..6)),
            7..9 => Step::KillKeeper,
            9 => Step::KillKeeperThenGod(moment(rng, 30_000)),
            10..12 => Step::KillWorker(rng.usize(..4)),
            12..14 => Step::KillApp(SINGLES[rng.usize(..SINGLES.len())]),
            14 => Step::Update,
            15 => Step::UpdateToCopy,
            16..21 => Step::Command(Command::random(rng)),
            21..27 => Step::KillDuring(Command::random(rng), moment(rng, 120_000)),
            27 => Step::UpdateDuring(Command::random(rng)),
            28..30 => Step::Freeze(moment(rng, 600_000)),
            30 => Step::FullDisk,
            31 => Step::KillOnFullDisk,
            _ => Step::Point(POINTS[rng.usize(..POINTS.len())], Command::random(rng)),
        }
    }
}
