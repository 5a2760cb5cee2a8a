//! What a God finds when his life begins: the records and open files of the one before him.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::frames::Records;
use super::ledger;
use super::shared_memory::{FdSlot, Place, SharedMemory, Word};
use super::{FIRST, UpgradeProbation};
use crate::os::fs::files;
use crate::os::fs::files::FileId;
use crate::os::process::reap::Ended;
use crate::os::process::{identity, pidfd};
use crate::os::tracer::Tracer;

/// See the module.
#[derive(Debug)]
pub struct Inherited {
    /// The memory shared with the keeper.
    pub shared_memory: Rc<SharedMemory>,
    /// The records of the God before; none at first.
    pub records: Records,
    /// The files he kept, by name.
    pub files: HashMap<String, OwnedFd>,
    /// Connections he had written down, and where they were.
    pub connections: Vec<(OwnedFd, Place)>,
    /// Whatever sockets he had open besides. A connection that was accepted just before his end is among them.
    pub rest: Vec<OwnedFd>,
    /// Where exits are read from.
    pub exits: Option<OwnedFd>,
    /// Where to say that we are ready, for the first God only.
    pub readiness: Option<OwnedFd>,
    /// Who looks into programs: we, or the keeper.
    pub tracer: Tracer,
    /// The God before, if there was one.
    pub previous: Option<Previous>,
    /// Pid of the keeper.
    pub keeper: i32,
}

/// Open files, by number, that a God has besides those the shared_memory knows of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    /// Where to say that we are ready, for the first God only.
    pub(crate) readiness: Option<RawFd>,
    /// Our end of the line to the keeper, and his.
    pub(crate) line: Option<(RawFd, RawFd)>,
}

/// How the God before came to his end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// His exit; `None` if his keeper died before him.
    pub ended: Option<Ended>,
    /// When, in ms of the monotonic clock.
    pub at: u64,
    /// Where the last upgrade stands.
    pub probation: UpgradeProbation,
}

impl Inherited {
    /// Takes over everything. To be called first thing in God's process.
    pub(crate) fn take(shared_memory: Rc<SharedMemory>, given: Given, keeper: i32) -> io::Result<Inherited> {
        let slots: Vec<RawFd> = FdSlot::ALL.iter().filter_map(|slot| shared_memory.fd_slot(*slot)).collect();
        let Given { readiness, line } = given;
        let line_ends = line.into_iter().flat_map(|(ours, his)| [ours, his]);
        let owned = [shared_memory.file().as_raw_fd()].into_iter().chain(slots).chain(readiness).chain(line_ends);
        let mut open = files::claim(&owned.collect::<Vec<_>>())?;
        let records = records_of(&shared_memory)?;
        let files = kept(&records, &mut open);
        let places: BTreeMap<RawFd, Place> =
            open.keys().filter_map(|number| Some((*number, shared_memory.place(*number)?))).collect();
        let connections =
            places.into_iter().filter_map(|(number, place)| Some((open.remove(&number)?, place))).collect();
        let exits = shared_memory.fd_slot(FdSlot::ExitsOut).and_then(files::take);
        let previous = (shared_memory.get(Word::Generation) > FIRST).then(|| Previous {
            ended: super::decode_end(shared_memory.get(Word::LastEnd)),
            at: shared_memory.get(Word::EndedAt),
            probation: UpgradeProbation::of(&shared_memory),
        });
        // The others are of no use and make room: he may have had as many open as there can be.
        let is_socket = |file: &OwnedFd| files::is_socket(file);
        let rest = open.into_values().filter(is_socket).collect();
        let readiness = readiness.and_then(files::take);
        let tracer = tracer(line.and_then(|(ours, _)| files::take(ours)), keeper);
        Ok(Inherited { shared_memory, records, files, connections, rest, exits, readiness, tracer, previous, keeper })
    }
}

/// With the keeper as deputy, unless he is dead: then it is not known who has his pid.
fn tracer(line: Option<OwnedFd>, keeper: i32) -> Tracer {
    match (line, pidfd::open(keeper)) {
        (Some(line), Ok(process)) if identity::parent() == keeper => Tracer::with_deputy(line, process),
        _ => Tracer::alone(),
    }
}

/// The records of the God before, or after an upgrade that failed, where we cannot read his, of the one before him.
fn records_of(shared_memory: &SharedMemory) -> io::Result<Records> {
    let Some(number) = shared_memory.fd_slot(FdSlot::Ledger) else { return Ok(Records::new()) };
    let records = read(number)?;
    match shared_memory.fd_slot(FdSlot::LedgerBefore) {
        Some(before) if ledger::format(&records) > ledger::FORMAT_VERSION => read(before),
        _ => Ok(records),
    }
}

/// The records in the ledger of this number.
fn read(number: RawFd) -> io::Result<Records> {
    files::look_at(number, |file| ledger::read(file)).unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

fn kept(records: &Records, open: &mut BTreeMap<RawFd, OwnedFd>) -> HashMap<String, OwnedFd> {
    let mut files = HashMap::new();
    for (name, id) in ledger::kept(records) {
        if open.get(&id.number).and_then(|file| FileId::of(file).ok()) == Some(id)
            && let Some(file) = open.remove(&id.number)
        {
            files.insert(name.to_owned(), file);
        }
    }
    files
}

/// Lets the program that is executed next have all of it: slots, kept files, connections on their way.
pub(crate) fn bequeath(shared_memory: &SharedMemory) -> io::Result<()> {
    files::inherit_number(shared_memory.file().as_raw_fd());
    let slots: Vec<RawFd> = FdSlot::ALL.iter().filter_map(|slot| shared_memory.fd_slot(*slot)).collect();
    slots.iter().for_each(|number| files::inherit_number(*number));
    if let Some(ledger) = shared_memory.fd_slot(FdSlot::Ledger) {
        let records = read(ledger)?;
        ledger::kept(&records).for_each(|(_, id)| files::inherit_number(id.number));
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && shared_memory.place(number).is_some()
        {
            files::inherit_number(number);
        }
    }
    Ok(())
}
