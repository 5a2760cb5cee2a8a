//! Going over to another program, or process: whether the program can go on with the state, the handing over, and the
//! probation of the new God.
//!
//! God itself hands over nothing: its files are open in the keeper, and its state is in the ledger. God ends, and the
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

/// First argument of a program that is to check whether it can go on with the ledger on its standard input.
pub const CHECK: &str = "__check";
/// How long the program may take to answer that.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the God of a new program must live before the program before is given up.
const PROBATION: Duration = Duration::from_secs(3);

/// The answer of a program that can go on.
#[derive(Serialize, Deserialize)]
struct Certificate {
    version: String,
    layout: u64,
}

/// Whether this program can go on with the ledger in this file. Answer and error are each a line to be printed.
///
/// # Errors
/// Why it cannot go on.
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

/// Asks a program whether it can go on with our ledger. Returns the open file of that program, and its version. Blocks.
pub(crate) fn ask(path: &Path, ledger: OwnedFd) -> Result<(File, String), Refusal> {
    let refused = |error: String| Refusal::Failed { doing: format!("asking {}", path.display()), error };
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .arg(CHECK)
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
    if !pidfd::ends_within(&process, CHECK_TIMEOUT) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it said nothing in {} s", CHECK_TIMEOUT.as_secs()));
    }
    let output = child.wait_with_output().map_err(in_words)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut why = String::new();
    output.stderr.as_slice().read_to_string(&mut why).map_err(in_words)?;
    Err(if why.trim().is_empty() { output.status.to_string() } else { why.trim().to_owned() })
}

/// The last upgrade of this line of daemons, and the probation of this God if it came by one.
pub(crate) struct Upgrade {
    shared_memory: Rc<SharedMemory>,
    /// Pid of the keeper.
    keeper: i32,
    /// The outcome, once it is known.
    known: Option<Upgraded>,
    /// Clients that wait for the outcome.
    waiting: Vec<oneshot::Sender<Upgraded>>,
    /// When the probation of this program ends, and the outcome if it is alive by then.
    probation: Option<(Instant, Upgraded)>,
}

impl Upgrade {
    /// Nothing is known yet: [`Upgrade::begin`] is to follow.
    pub fn new(shared_memory: Rc<SharedMemory>, keeper: i32) -> Upgrade {
        Upgrade { shared_memory, keeper, known: None, waiting: Vec::new(), probation: None }
    }

    /// Takes note of how this God came to be: after `previous`, if there was one, with so many runs.
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
                tracing::error!("the upgrade failed: the program before it goes on");
                keeper::end_probation(&self.shared_memory, self.keeper);
            }
        }
    }

    /// When the probation ends; `None` if there is none.
    pub fn deadline(&self) -> Option<Instant> {
        self.probation.as_ref().map(|(end, _)| *end)
    }

    /// The probation is over: from now on there is no way back to the program before.
    pub fn complete(&mut self) {
        if let Some((_, outcome)) = self.probation.take() {
            tracing::info!("version {VERSION} has taken over");
            keeper::end_probation(&self.shared_memory, self.keeper);
            for waiting in self.waiting.drain(..) {
                // A client that hung up has no interest.
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

    /// Hands over to this program, of this version, with so many runs, unless the daemon is `closing`. The answer goes out
    /// first; then this process ends, and the keeper executes the program.
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
}

/// Executes this program once more, as the keeper, which starts another God that goes on. For a God whose keeper has died.
/// Returns only if that fails.
pub(crate) fn become_keeper(shared_memory: &SharedMemory, home: &Home) -> io::Error {
    shared_memory.set(Word::LastEnd, 0);
    shared_memory.set(Word::EndedAt, clock::monotonic_ms());
    match File::open("/proc/self/exe") {
        Ok(program) => keeper::execute(shared_memory, &program, home.root().as_os_str()),
        Err(error) => error,
    }
}
