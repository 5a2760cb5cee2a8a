//! What a God finds when it begins: the records and the open files of the God before it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::frames::Records;
use super::ledger;
use super::probation::UpgradeProbation;
use super::shared_memory::{FdSlot, Place, SharedMemory, Word};
use crate::os::fs::files;
use crate::os::fs::files::FileId;
use crate::os::process::reap::Ended;
use crate::os::process::{identity, pidfd};
use crate::os::tracer::Tracer;

/// Generation of the first God. It has no predecessor.
const FIRST: u64 = 1;

/// All that God takes over from the keeper and from the God before it.
#[derive(Debug)]
pub struct Inherited {
    /// The memory shared with the keeper.
    pub shared_memory: Rc<SharedMemory>,
    /// The records of the God before; empty for the first God.
    pub records: Records,
    /// The files that the God before kept, by name.
    pub files: HashMap<String, OwnedFd>,
    /// The connections that the God before had written down, and where they were.
    pub connections: Vec<(OwnedFd, Place)>,
    /// All other sockets that the God before had open. A connection that was accepted just before its end is among
    /// them.
    pub other_sockets: Vec<OwnedFd>,
    /// Where exits are read from.
    pub exits: Option<OwnedFd>,
    /// Where to report that God is ready; for the first God only.
    pub readiness: Option<OwnedFd>,
    /// What looks into workers' processes: God itself, and the keeper where the kernel refuses it to God.
    pub tracer: Tracer,
    /// The end of the God before, if there was one.
    pub previous: Option<Previous>,
    /// Pid of the keeper.
    pub keeper: i32,
}

/// Open files of a God, by number, that the shared memory does not name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GodFds {
    /// Where to report that God is ready; for the first God only.
    pub(crate) readiness: Option<RawFd>,
    /// The link between God's tracer and the keeper: God's end, and the keeper's.
    pub(crate) tracer_link: Option<(RawFd, RawFd)>,
}

/// How and when the God before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its exit; `None` if its keeper died before it.
    pub ended: Option<Ended>,
    /// When it ended, in ms of the monotonic clock.
    pub at: u64,
    /// Where the last upgrade stands.
    pub probation: UpgradeProbation,
}

impl Inherited {
    /// Takes over all open files. God calls it before anything else is opened in its process.
    pub(crate) fn take(shared_memory: Rc<SharedMemory>, fds: GodFds, keeper: i32) -> io::Result<Inherited> {
        let slots: Vec<RawFd> = FdSlot::ALL.iter().filter_map(|slot| shared_memory.fd_slot(*slot)).collect();
        let GodFds { readiness, tracer_link } = fds;
        let link_ends = tracer_link.into_iter().flat_map(|(god, keeper)| [god, keeper]);
        let owned = [shared_memory.file().as_raw_fd()].into_iter().chain(slots).chain(readiness).chain(link_ends);
        let mut open = files::claim(&owned.collect::<Vec<_>>())?;
        let records = records_of(&shared_memory)?;
        let files = kept(&records, &mut open);
        let places: BTreeMap<RawFd, Place> =
            open.keys().filter_map(|number| Some((*number, shared_memory.place(*number)?))).collect();
        let connections =
            places.into_iter().filter_map(|(number, place)| Some((open.remove(&number)?, place))).collect();
        let exits = shared_memory.fd_slot(FdSlot::ExitsOut).and_then(files::take);
        let previous = (shared_memory.get(Word::Generation) > FIRST).then(|| Previous {
            ended: shared_memory.last_end(),
            at: shared_memory.get(Word::EndedAt),
            probation: UpgradeProbation::read(&shared_memory),
        });
        // Files that are no sockets are closed, which makes room: the God before may have had as many as the limit
        // allows.
        let is_socket = |file: &OwnedFd| files::is_socket(file);
        let other_sockets = open.into_values().filter(is_socket).collect();
        let readiness = readiness.and_then(files::take);
        let tracer = tracer(tracer_link.and_then(|(god, _)| files::take(god)), keeper);
        Ok(Inherited {
            shared_memory,
            records,
            files,
            connections,
            other_sockets,
            exits,
            readiness,
            tracer,
            previous,
            keeper,
        })
    }
}

/// With the keeper as proxy, unless the keeper is dead: then another process may have its pid.
fn tracer(link: Option<OwnedFd>, keeper: i32) -> Tracer {
    match (link, pidfd::open(keeper)) {
        (Some(link), Ok(process)) if identity::parent() == keeper => Tracer::with_proxy(link, process),
        _ => Tracer::direct(),
    }
}

/// The records of the God before. After a failed upgrade, where this version cannot read the new God's records, those
/// of the God before the upgrade.
fn records_of(shared_memory: &SharedMemory) -> io::Result<Records> {
    let Some(number) = shared_memory.fd_slot(FdSlot::Ledger) else { return Ok(Records::new()) };
    let records = read(number)?;
    match shared_memory.fd_slot(FdSlot::LedgerBefore) {
        Some(before) if ledger::format(&records) > ledger::FORMAT_VERSION => read(before),
        _ => Ok(records),
    }
}

/// Reads the ledger that is open under this number.
fn read(number: RawFd) -> io::Result<Records> {
    files::with_number(number, |file| ledger::read(file)).unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

/// Moves the kept files from `open` to a map by name. A number under which another file is open now is passed over.
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

/// Lets the program that is executed next inherit the slots, the kept files and the connections that have a place.
pub(crate) fn make_inheritable(shared_memory: &SharedMemory) -> io::Result<()> {
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
