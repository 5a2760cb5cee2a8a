//! Going over to another program: whether it can, the handing over, and the trial of the new one.
//!
//! God himself hands over nothing: what he has is open in the keeper and written in the ledger. He ends, and the keeper
//! executes the new program; see [`crate::keeper`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::god::God;
use super::runs::table;
use crate::keeper::{self, FdSlot, LAYOUT, Previous, Records, UPGRADE, UpgradeProbation, ledger};
use crate::os::process::{clone_files, pidfd};
use crate::os::{clock, killpoint};
use crate::protocol::{Refusal, Successor, Upgraded, VERSION};
use crate::supervisor::{RecordKey, Supervisor};

/// First argument of a program that is to say whether it can go on with the ledger on its standard input.
pub const EXAMINATION: &str = "__check";
/// How long it may take to say so.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the God of a new program must live for the old one to be let go.
pub const TRIAL: Duration = Duration::from_secs(3);

/// What a program says of itself.
#[derive(Serialize, Deserialize)]
struct Certificate {
    version: String,
    layout: u64,
}

/// The answer of this program: whether it can go on with the ledger in this file. Both are a line to be printed.
pub fn examine(ledger: &OwnedFd) -> Result<String, String> {
    let records = ledger::read(ledger).map_err(|error| format!("the state cannot be read: {error}"))?;
    let format = ledger::format(&records);
    if format > ledger::FORMAT_VERSION {
        return Err(format!("version {VERSION} does not know format {format} of the state"));
    }
    read(&records)?;
    let certificate = Certificate { version: VERSION.to_owned(), layout: LAYOUT };
    serde_json::to_string(&certificate).map_err(|error| error.to_string())
}

/// The supervisor of these records.
pub fn read(records: &Records) -> Result<Supervisor, String> {
    let known = records.iter().filter_map(|(key, json)| Some((key.parse::<RecordKey>().ok()?, &**json)));
    Supervisor::from_records(known).map_err(|error| error.to_string())
}

/// Asks a program whether it can go on with our ledger. Returns the very file that was asked. Blocks.
pub fn ask(path: &Path, ledger: OwnedFd) -> Result<(File, String), Refusal> {
    let refused = |error: String| Refusal::Failed { doing: format!("asking {}", path.display()), error };
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .arg(EXAMINATION)
        .stdin(ledger)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| refused(format!("it cannot be executed: {error}")))?;
    let said = answer(child).map_err(refused)?;
    let Certificate { version, layout } =
        serde_json::from_str(&said).map_err(|_| refused("it is no pmr that can take over".to_owned()))?;
    if layout != LAYOUT {
        return Err(refused(format!(
            "version {version} shares its memory in another way and cannot take over while apps run; `pmr save`, `pmr \
             kill`, `pmr resurrect` with it restarts them"
        )));
    }
    Ok((file, version))
}

fn answer(mut child: Child) -> Result<String, String> {
    let in_words = |error: io::Error| error.to_string();
    let process = pidfd::open(i32::try_from(child.id()).unwrap_or_default()).map_err(in_words)?;
    if !pidfd::ends_within(&process, PATIENCE) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it said nothing in {} s", PATIENCE.as_secs()));
    }
    let output = child.wait_with_output().map_err(in_words)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut why = String::new();
    output.stderr.as_slice().read_to_string(&mut why).map_err(in_words)?;
    Err(if why.trim().is_empty() { output.status.to_string() } else { why.trim().to_owned() })
}

/// Who wants to know what came of an upgrade, and what is known.
#[derive(Default)]
pub struct Outcome {
    known: Option<Upgraded>,
    waiting: Vec<oneshot::Sender<Upgraded>>,
}

impl God {
    /// Takes note of how this God came to be. True if he is on trial.
    pub(crate) fn begin_probation(&mut self, previous: Option<Previous>) {
        let trial = previous.map_or(UpgradeProbation::None, |previous| previous.probation);
        self.upgrade.known = match trial {
            UpgradeProbation::None => Some(Upgraded::NotAsked),
            UpgradeProbation::Running => None,
            UpgradeProbation::NotExecuted => Some(Upgraded::NotExecuted),
            UpgradeProbation::Failed => Some(Upgraded::Failed {
                exit: previous.and_then(|previous| previous.ended).map(|ended| table::exit(Some(ended), None)),
            }),
        };
        match trial {
            UpgradeProbation::None => {}
            UpgradeProbation::Running => {
                let (now, runs) = (clock::monotonic_ms(), self.running());
                let gap_ms = previous.map_or(0, |previous| now.saturating_sub(previous.at));
                killpoint::pass("trial");
                self.probation = Some((tokio::time::Instant::now() + TRIAL, Upgraded::Done { gap_ms, runs }));
            }
            UpgradeProbation::NotExecuted | UpgradeProbation::Failed => {
                tracing::error!("the upgrade failed: the program before it goes on");
                keeper::end_probation(&self.resources.persistence.shared_memory, self.resources.keeper);
            }
        }
    }

    /// The trial is over: there is no way back any more.
    pub(crate) fn passed_probation(&mut self) {
        if let Some((_, outcome)) = self.probation.take() {
            tracing::info!("version {VERSION} has taken over");
            keeper::end_probation(&self.resources.persistence.shared_memory, self.resources.keeper);
            for waiting in self.upgrade.waiting.drain(..) {
                // Who hung up has no interest.
                let _ = waiting.send(outcome.clone());
            }
            self.upgrade.known = Some(outcome);
        }
    }

    /// Answers now, or when the trial is over.
    pub(crate) fn tell_upgrade(&mut self, reply: oneshot::Sender<Upgraded>) {
        match &self.upgrade.known {
            Some(known) => drop(reply.send(known.clone())),
            None => self.upgrade.waiting.push(reply),
        }
    }

    /// Hands over to this program. The answer goes out before.
    pub(crate) fn hand_over(
        &mut self,
        program: File,
        version: String,
        reply: oneshot::Sender<Result<Successor, Refusal>>,
    ) {
        if self.supervisor.is_closing() || self.probation.is_some() {
            let busy = Refusal::Failed {
                doing: "handing over".into(),
                error: "another upgrade, or a shutdown, is under way".into(),
            };
            drop(reply.send(Err(busy)));
            return;
        }
        tracing::info!("handing over to version {version}");
        drop(reply.send(Ok(Successor { version, runs: self.running() })));
        let shared_memory = self.resources.persistence.shared_memory.clone();
        tokio::task::spawn_local(async move {
            // The answer is on its way through tasks of this very thread.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            killpoint::pass("handing-over");
            shared_memory.set_fd_slot(FdSlot::Program, Some(program.into_raw_fd()));
            killpoint::pass("handed-over");
            clone_files::leave(UPGRADE);
        });
    }

    /// How many runs there are.
    pub(crate) fn running(&mut self) -> u32 {
        u32::try_from(self.runs.running().count()).unwrap_or(u32::MAX)
    }
}
