//! Reading a journal: as far as it is good, and what is not is set aside, never deleted.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::{FORMAT, HEAD, Head, kernel_random};
use crate::keeper::{Records, frames};
use crate::os::fs::replace;
use crate::protocol::info::EpochMs;

/// More than a head is long.
const HEAD_BYTES: u64 = 1 << 10;

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The records: what a ledger that goes on with it begins with.
    pub records: Records,
    /// True if it was written in this boot: times of the monotonic clock hold, and pids with their start times.
    pub same_boot: bool,
    /// Which daemon's it is.
    pub lineage: String,
    /// When it was last written.
    pub at: EpochMs,
    /// What could not be used, in sentences; they have been logged, too.
    pub notes: Vec<String>,
}

/// Reads a journal. `None` if there is none, or nothing of it can be used; notes tell which.
pub fn load(path: &Path) -> io::Result<(Option<Loaded>, Vec<String>)> {
    let mut bytes = Vec::new();
    let at = match open(path) {
        Ok(mut file) => {
            file.read_to_end(&mut bytes)?;
            modified(&file.metadata()?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, vec![])),
        Err(error) => return Err(error),
    };
    let mut records = Records::new();
    let good = frames::read(&bytes, &mut records);
    let head = match parse(&mut records) {
        Ok(head) => head,
        Err(why) => return Ok((None, vec![set_aside(path, &why)?])),
    };
    let mut notes = Vec::new();
    if frames::any_in(&bytes[good..]) {
        notes.push(part_aside(path, &bytes[..good])?);
    } else if good < bytes.len() {
        // The daemon or the machine went down in the middle of a write.
        tracing::info!("{}: the last {} bytes were not whole", path.display(), bytes.len() - good);
    }
    let same_boot = is_this_boot(&head);
    Ok((Some(Loaded { records, same_boot, lineage: head.lineage, at, notes }), vec![]))
}

/// The records of a journal of this boot, as far as they are good; none otherwise. Changes nothing: what is damaged is
/// [`load`]'s affair.
#[must_use]
pub fn of_this_boot(path: &Path) -> Records {
    let mut records = Records::new();
    if head(path).ok().flatten().is_some_and(|head| is_this_boot(&head))
        && let Ok(bytes) = fs::read(path)
    {
        frames::read(&bytes, &mut records);
    }
    records
}

fn is_this_boot(head: &Head) -> bool {
    kernel_random("boot_id").is_ok_and(|boot| boot == head.boot)
}

/// Which daemon's journal lies there, if it can be told.
#[must_use]
pub fn lineage(path: &Path) -> Option<String> {
    Some(head(path).ok()??.lineage)
}

/// The head of a journal alone; `None` if there is no journal, [`io::ErrorKind::InvalidData`] if it is none of ours.
pub(crate) fn head(path: &Path) -> io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    match open(path) {
        Ok(file) => file.take(HEAD_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut records = Records::new();
    frames::read(&bytes, &mut records);
    parse(&mut records).map(Some).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Takes the head out of the records.
fn parse(records: &mut Records) -> Result<Head, String> {
    let text = records.remove(HEAD).ok_or("it does not begin as a journal does")?;
    let head: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match head["format"].as_u64() {
        Some(format) if format > u64::from(FORMAT) => {
            Err(format!("it was written by a later version (format {format})"))
        }
        _ => serde_json::from_value(head).map_err(|error| error.to_string()),
    }
}

/// What is no file is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path)
}

fn modified(known: &fs::Metadata) -> EpochMs {
    let since = known.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Moves it out of the way.
pub(crate) fn set_aside(path: &Path, why: &str) -> io::Result<String> {
    let aside = replace::aside(path);
    fs::rename(path, &aside)?;
    Ok(told(path, why, &aside, ""))
}

/// Keeps it under another name, with the good part in its place.
fn part_aside(path: &Path, good: &[u8]) -> io::Result<String> {
    let aside = replace::aside(path);
    replace::keep_as(path, &aside)?;
    replace::replace(path, |file| file.write_all(good))?;
    Ok(told(path, "a part of it is damaged", &aside, ", and what was written before that part is used"))
}

fn told(path: &Path, why: &str, aside: &Path, and: &str) -> String {
    let note = format!("{} could not be used ({why}); it was set aside as {}{and}", path.display(), aside.display());
    tracing::error!("{note}");
    note
}
