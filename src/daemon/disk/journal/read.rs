//! Reads a journal up to the first damaged frame. A damaged file is set aside, never deleted.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::{FORMAT, HEAD, Head, kernel_random};
use crate::keeper::{Records, frames};
use crate::os::fs::replace;
use crate::protocol::info::EpochMs;

/// Bytes to read for the head, which is shorter.
const HEAD_BYTES: u64 = 1 << 10;

/// The content of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The records, without the head.
    pub records: Records,
    /// True if it was written in this boot. Only then times of the monotonic clock mean anything, and pids with their
    /// start times.
    pub same_boot: bool,
    /// The lineage of the daemon that wrote it.
    pub lineage: String,
    /// When it was last written.
    pub at: EpochMs,
    /// Sentences about parts that could not be used; they have been logged, too.
    pub notes: Vec<String>,
}

/// Reads a journal. `None` without notes if there is none; `None` with notes if nothing of it can be used.
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
        notes.push(replace_by_good_part(path, &bytes[..good])?);
    } else if good < bytes.len() {
        // The daemon or the machine went down during a write.
        tracing::info!("{}: the last {} bytes are an incomplete record", path.display(), bytes.len() - good);
    }
    let same_boot = is_this_boot(&head);
    Ok((Some(Loaded { records, same_boot, lineage: head.lineage, at, notes }), vec![]))
}

/// The records of a journal that was written in this boot, up to the first damaged one; none of a journal of an earlier
/// boot. The file stays as it is, also if it is damaged: [`load`] sets it aside.
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

/// The lineage of the daemon that wrote the journal at `path`; `None` if there is none or its head cannot be read.
#[must_use]
pub fn lineage(path: &Path) -> Option<String> {
    Some(head(path).ok()??.lineage)
}

/// Reads only the head of a journal. `None` if there is no file, [`io::ErrorKind::InvalidData`] if the file is no journal
/// or of a later format.
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

/// Opens without blocking: a named pipe at this path would block until another process opens it.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    File::options().read(true).custom_flags(flags).open(path)
}

fn modified(known: &fs::Metadata) -> EpochMs {
    let since = known.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Renames a file that cannot be used. Returns a note about it.
pub(crate) fn set_aside(path: &Path, why: &str) -> io::Result<String> {
    let aside = replace::aside(path);
    fs::rename(path, &aside)?;
    Ok(log_note(path, why, &aside, ""))
}

/// Keeps a damaged file under another name and puts its undamaged beginning in its place. Returns a note about it.
fn replace_by_good_part(path: &Path, good: &[u8]) -> io::Result<String> {
    let aside = replace::aside(path);
    replace::keep_as(path, &aside)?;
    replace::replace(path, |file| file.write_all(good))?;
    Ok(log_note(path, "a part of it is damaged", &aside, ", and what was written before that part is used"))
}

fn log_note(path: &Path, why: &str, aside: &Path, and: &str) -> String {
    let note = format!("{} could not be used ({why}); it was set aside as {}{and}", path.display(), aside.display());
    tracing::error!("{note}");
    note
}
