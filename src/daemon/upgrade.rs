//! Upgrade of a running daemon to another program: the check whether that program can continue with the state, the
//! handover, and the probation of the new God. Also the replacement of a keeper that died.
//!
//! God itself passes nothing on: its files are open in the keeper, and its state is in the ledger. God exits, and the
//! keeper executes the new program; see [`crate::keeper`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::runs::table;
use crate::keeper::{self, FdSlot, LAYOUT, Previous, Records, SharedMemory, UPGRADE, UpgradeProbation, Word, ledger};
use crate::os::process::{clone_files, pidfd};
use crate::os::{clock, killpoint};
use crate::paths::Home;
use crate::protocol::{Refusal, Successor, Upgraded, VERSION};
use crate::supervisor::{RecordKey, Supervisor};

/// First argument of a program that is to check whether it can continue with the ledger on its standard input.
pub const CHECK: &str = "__check";
/// The program that is checked is killed if it has not answered after this time.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// The keeper returns to the program before the upgrade if the God of the new program ends within this time.
const PROBATION: Duration = Duration::from_secs(3);

/// The answer of a program that can continue: its version, and the layout of the memory it shares with its keeper.
#[derive(Serialize, Deserialize)]
struct Certificate {
    version: String,
    layout: u64,
}

/// Checks whether this program can continue with the ledger in this file. Returns the line to be printed as the answer.
///
/// # Errors
/// Why it cannot continue, as a line to be printed.
pub fn check(ledger: &OwnedFd) -> Result<String, String> {
    let records = ledger::read(ledger).map_err(|error| format!("the state cannot be read: {error}"))?;
    let format = ledger::format(&records);
    if format > ledger::FORMAT_VERSION {
        return Err(format!("version {VERSION} does not know format {format} of the state"));
    }
    read(&records)?;
    let certificate = Certificate { version: VERSION.to_owned(), layout: LAYOUT };
    serde_json::to_string(&certificate).map_err(|error| error.to_string())
}

/// Reads the supervisor's state from the records of a ledger.
pub(crate) fn read(records: &Records) -> Result<Supervisor, String> {
    let known = records.iter().filter_map(|(key, json)| Some((key.parse::<RecordKey>().ok()?, &**json)));
    Supervisor::from_records(known).map_err(|error| error.to_string())
}

/// Runs a program with [`CHECK`], to find out whether it can continue with our ledger. Returns the open file of that
/// program, and its version. Blocks for [`CHECK_TIMEOUT`] at most.
pub(crate) fn check_program(path: &Path, ledger: OwnedFd) -> Result<(File, String), Refusal> {
    let refused = |error: String| Refusal::Failed { doing: format!("asking {}", path.display()), error };
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .arg(CHECK)
        .stdin(ledger)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| refused(format!("it cannot be executed: {error}")))?;
    let answer = answer_of(child).map_err(refused)?;
    let Certificate { version, layout } =
        serde_json::from_str(&answer).map_err(|_| refused("it is no pmr that can take over".to_owned()))?;
    if layout != LAYOUT {
        return Err(refused(format!(
            "version {version} has another layout of shared memory and cannot take over while apps run; `pmr save`, \
             `pmr kill`, `pmr resurrect` with it restarts them"
        )));
    }
    Ok((file, version))
}

/// The standard output of the check once it has succeeded, else its standard error or its exit status.
fn answer_of(mut child: Child) -> Result<String, String> {
    let in_words = |error: io::Error| error.to_string();
    let process = pidfd::open(i32::try_from(child.id()).unwrap_or_default()).map_err(in_words)?;
    if !pidfd::ends_within(&process, CHECK_TIMEOUT) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it did not answer within {} s", CHECK_TIMEOUT.as_secs()));
    }
    let output = child.wait_with_output().map_err(in_words)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut why = String::new();
    output.stderr.as_slice().read_to_string(&mut why).map_err(in_words)?;
    Err(if why.trim().is_empty() { output.status.to_string() } else { why.trim().to_owned() })
}

/// The outcome of the last upgrade in this home, and the probation of this God if an upgrade started it.
pub(crate) struct Upgrade {
    shared_memory: Rc<SharedMemory>,
    /// Pid of the keeper.
    keeper: i32,
    /// The outcome; `None` before [`Upgrade::begin`] and during the probation.
    known: Option<Upgraded>,
    /// Clients that wait for the outcome.
    waiting: Vec<oneshot::Sender<Upgraded>>,
    /// When the probation of this program ends, and the outcome to report if this God is alive by then.
    probation: Option<(Instant, Upgraded)>,
}

impl Upgrade {
    /// An upgrade with no outcome yet; [`Upgrade::begin`] must follow.
    pub fn new(shared_memory: Rc<SharedMemory>, keeper: i32) -> Upgrade {
        Upgrade { shared_memory, keeper, known: None, waiting: Vec::new(), probation: None }
    }

    /// Finds out from `previous`, how the God before ended, whether an upgrade started this God, and begins its
    /// probation if so. `runs` is the number of runs that were taken over.
    pub fn begin(&mut self, previous: Option<Previous>, runs: u32) {
        let probation = previous.map_or(UpgradeProbation::None, |previous| previous.probation);
        self.known = match probation {
            UpgradeProbation::None => Some(Upgraded::NotAsked),
            UpgradeProbation::Running => None,
            UpgradeProbation::NotExecuted => Some(Upgraded::NotExecuted),
            UpgradeProbation::Failed => Some(Upgraded::Failed {
                exit: previous.and_then(|previous| previous.ended).map(|ended| table::exit(Some(ended), None)),
            }),
        };
        match probation {
            UpgradeProbation::None => {}
            UpgradeProbation::Running => {
                let gap_ms = previous.map_or(0, |previous| clock::monotonic_ms().saturating_sub(previous.at));
                killpoint::pass("trial");
                self.probation = Some((Instant::now() + PROBATION, Upgraded::Done { gap_ms, runs }));
            }
            UpgradeProbation::NotExecuted | UpgradeProbation::Failed => {
                tracing::error!("the upgrade failed: the daemon continues with the program from before");
                keeper::end_probation(&self.shared_memory, self.keeper);
            }
        }
    }

    /// When the probation ends; `None` if this God is not on probation.
    pub fn deadline(&self) -> Option<Instant> {
        self.probation.as_ref().map(|(end, _)| *end)
    }

    /// Ends the probation: from now on the keeper does not return to the program from before. Sends the outcome to the
    /// clients that wait for it.
    pub fn complete(&mut self) {
        if let Some((_, outcome)) = self.probation.take() {
            tracing::info!("version {VERSION} has taken over");
            keeper::end_probation(&self.shared_memory, self.keeper);
            for waiting in self.waiting.drain(..) {
                // Fails if the client has hung up.
                let _ = waiting.send(outcome.clone());
            }
            self.known = Some(outcome);
        }
    }

    /// Sends the outcome now, or when the probation is over.
    pub fn answer(&mut self, reply: oneshot::Sender<Upgraded>) {
        match &self.known {
            Some(known) => drop(reply.send(known.clone())),
            None => self.waiting.push(reply),
        }
    }

    /// Hands over to this program, of this version, with this number of runs, unless the daemon is `closing`. The answer
    /// is sent first; then this process exits, and the keeper executes the program.
    pub fn hand_over(
        &self,
        program: File,
        version: String,
        (runs, closing): (u32, bool),
        reply: oneshot::Sender<Result<Successor, Refusal>>,
    ) {
        if closing || self.probation.is_some() {
            let busy = Refusal::Failed {
                doing: "handing over".into(),
                error: "another upgrade, or a shutdown, is under way".into(),
            };
            drop(reply.send(Err(busy)));
            return;
        }
        tracing::info!("handing over to version {version}");
        drop(reply.send(Ok(Successor { version, runs })));
        let shared_memory = Rc::clone(&self.shared_memory);
        tokio::task::spawn_local(async move {
            // The answer goes to the client through tasks of this same thread, which are given the time to send it.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            killpoint::pass("handing-over");
            shared_memory.set_fd_slot(FdSlot::Program, Some(program.into_raw_fd()));
            killpoint::pass("handed-over");
            clone_files::leave(UPGRADE);
        });
    }
}

/// Executes this program anew in this process, as the keeper, which starts the next God. Called by a God whose keeper has
/// died. Returns only if that fails.
pub(crate) fn become_keeper(shared_memory: &SharedMemory, home: &Home) -> io::Error {
    shared_memory.set(Word::LastEnd, 0);
    shared_memory.set(Word::EndedAt, clock::monotonic_ms());
    match File::open("/proc/self/exe") {
        Ok(program) => keeper::execute(shared_memory, &program, home.root().as_os_str()),
        Err(error) => error,
    }
}
