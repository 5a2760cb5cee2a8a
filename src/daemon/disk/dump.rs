//! The saved list on disk, and the choice of the list that is restored. A file that cannot be read is set aside, never
//! deleted; the next source is used, and the client gets a note of it.
//!
//! There are two sources: the journal, which has what ran when the daemon before ended, and the list that `pmr save`
//! wrote. With `autosave` the journal comes first, else the saved list; if the first is missing or empty, the other is
//! used. There is one exception: `resurrect` in a daemon that has run apps already takes the saved list first, with
//! `autosave` too, if it was saved after the daemon before ended. An operator who saves, deletes and resurrects wants the
//! list that was saved.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::desired;
use super::desired::Fingerprint;
use super::journal;
use crate::os::fs::replace;
use crate::paths::Home;
use crate::protocol::Refusal;
use crate::protocol::info::EpochMs;
use crate::settings::Settings;
use crate::supervisor::Snapshot;

/// What is known of the saved list, shared by God and the RPC handlers: set by every save, and at the start from the file.
/// `None` if nothing was saved.
pub type KnownList = Arc<Mutex<Option<SavedList>>>;

/// Time and content of the saved list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedList {
    /// When it was saved.
    pub at: EpochMs,
    /// The fingerprint of the desired state in it.
    pub fingerprint: Fingerprint,
}

/// Writes the list to the file, and keeps the list before as a backup.
pub fn save(home: &Home, snapshot: &Snapshot) -> Result<PathBuf, Refusal> {
    let path = home.dump_file();
    replace::keep_as(&path, &home.dump_backup())
        .and_then(|()| write(&path, snapshot))
        .map_err(|error| failed("writing", &path, &error))?;
    Ok(path)
}

/// The list that was saved last, if it can be read.
#[must_use]
pub fn saved(home: &Home) -> Option<SavedList> {
    let path = home.dump_file();
    let snapshot = read(&path).ok()??;
    let at = modified(&path)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(SavedList { at: u64::try_from(at.as_millis()).ok()?, fingerprint: Fingerprint::of(&snapshot) })
}

/// A file from which a list can be restored.
enum Source {
    /// A journal: what ran when the daemon before ended.
    Journal(PathBuf),
    /// A list that was saved, or the list that the first builds wrote when they ended.
    List(PathBuf),
}

/// The list to restore, in the daemon of this `lineage`. The notes say which source it is from, and which sources could
/// not be used.
pub fn load(home: &Home, lineage: &str) -> Result<(Snapshot, Vec<String>), Refusal> {
    let mut notes = Vec::new();
    let settings = Settings::read(home).unwrap_or_else(|why| {
        tracing::warn!("{why}; autosave is taken to be on");
        notes.push(format!("{why}; autosave is taken to be on"));
        Settings::default()
    });
    for source in sources(home, settings.autosave, lineage) {
        if let Some((snapshot, origin)) = source.read(&mut notes) {
            notes.push(origin);
            return Ok((snapshot, notes));
        }
    }
    match notes.is_empty() {
        true => Err(Refusal::NothingSaved { path: home.dump_file().display().to_string() }),
        false => Err(Refusal::Failed { doing: "reading what ran and what was saved".into(), error: notes.join("; ") }),
    }
}

/// The sources in the order in which they are tried.
fn sources(home: &Home, autosave: bool, lineage: &str) -> Vec<Source> {
    let (dump, before) = (home.dump_file(), home.journal_before());
    // Once this daemon has written its own journal, that of the daemon before has another name.
    let begun = journal::lineage(&home.journal()).is_some_and(|owner| owner == lineage);
    let saved_since = begun && modified(&dump) > modified(&before);
    let journal = Source::Journal(if begun { before } else { home.journal() });
    let saved = [dump, home.dump_backup()].map(Source::List);
    let mut sources = Vec::from(saved);
    sources.insert(if autosave && !saved_since { 0 } else { sources.len() }, journal);
    sources.push(Source::List(home.last_state()));
    sources
}

impl Source {
    /// The list and a note that says where it is from; `None` if there is none. Adds notes on files that exist and could
    /// not be used.
    fn read(self, notes: &mut Vec<String>) -> Option<(Snapshot, String)> {
        match self {
            Source::Journal(path) => {
                let loaded = journal::load(&path)
                    .unwrap_or_else(|error| (None, vec![format!("{} could not be read: {error}", path.display())]));
                notes.extend(loaded.1);
                let journal = loaded.0?;
                let (snapshot, unread) = desired::of_records(&journal.records);
                notes.extend(journal.notes.into_iter().chain(unread));
                // A journal from which every app was deleted does not count: the operator may want the saved list.
                (!snapshot.apps.is_empty())
                    .then(|| (snapshot, "this is what ran when the daemon last ended".to_owned()))
            }
            Source::List(path) => match read(&path) {
                Ok(snapshot) => snapshot.map(|snapshot| (snapshot, format!("this is the list in {}", path.display()))),
                Err(why) => {
                    notes.push(set_aside(&path, &why));
                    None
                }
            },
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|known| known.modified()).ok()
}

fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    // `replace` makes a file that only its owner can read, as it must be: the list holds environments.
    replace::replace(path, |file| {
        let mut text = serde_json::to_vec_pretty(snapshot)?;
        text.push(b'\n');
        file.write_all(&text)
    })?;
    Ok(())
}

fn read(path: &Path) -> Result<Option<Snapshot>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let snapshot: Snapshot = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if snapshot.version > Snapshot::VERSION {
        return Err(format!("it was written by a later version (format {})", snapshot.version));
    }
    Ok(Some(snapshot))
}

fn set_aside(path: &Path, why: &str) -> String {
    let aside = replace::aside(path);
    let note = match fs::rename(path, &aside) {
        Ok(()) => format!("{} could not be used ({why}); it was set aside as {}", path.display(), aside.display()),
        Err(error) => format!("{} could not be used ({why}) nor set aside ({error})", path.display()),
    };
    tracing::warn!("{note}");
    note
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::Failed { doing: format!("{verb} {}", path.display()), error: error.to_string() }
}

#[cfg(test)]
mod tests;
