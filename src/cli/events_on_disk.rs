//! Reads the history, which the daemon writes to its home; needs no running daemon.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::failure::{Doing, Failure};
use super::view::secret;
use crate::paths::Home;
use crate::protocol::{Event, EventKind};
use crate::spec::target::Selector;

/// Highest number of an old file that is tried; the daemon keeps fewer.
const MOST_FILES: u32 = 9;

/// All events from `since` on (milliseconds since 1970), oldest first. Values that look like secrets are redacted in
/// command lines unless `show_secrets`. A history that does not exist yet is empty.
pub fn read(home: &Home, since: u64, show_secrets: bool) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    for path in files(&home.history()) {
        read_file(&path, since, &mut events).doing(|| format!("reading {}", path.display()))?;
    }
    if !show_secrets {
        events.iter_mut().for_each(redact);
    }
    Ok(events)
}

/// The files of the history, oldest first.
fn files(newest: &Path) -> Vec<PathBuf> {
    let numbered = |number: u32| {
        let mut name = newest.to_owned().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    (1..=MOST_FILES).rev().map(numbered).chain([newest.to_owned()]).collect()
}

/// Lines that are no event are skipped: a last line that was cut, or an event of a later version.
fn read_file(path: &Path, since: u64, events: &mut Vec<Event>) -> std::io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        events.extend(serde_json::from_slice(&line).ok().filter(|event: &Event| event.at >= since));
        line.clear();
    }
    Ok(())
}

fn redact(event: &mut Event) {
    if let EventKind::Requested { by, .. } = &mut event.kind {
        by.command = secret::command_line(&by.command);
    }
}

/// The events about the processes that the selectors name: an app by name, else a namespace, else an id. Events of the
/// daemon itself stay, because they concern all apps. The error is the first selector that matches no event.
pub fn about(events: Vec<Event>, selectors: &[Selector]) -> Result<Vec<Event>, &Selector> {
    let matchers = selectors.iter().map(|selector| Matcher::new(selector, &events).ok_or(selector));
    let matchers = matchers.collect::<Result<Vec<_>, _>>()?;
    let concerns = |event: &Event| match &event.process {
        Some(_) => matchers.is_empty() || matchers.iter().any(|test| test.matches(event)),
        None => matchers.is_empty() || !matches!(event.kind, EventKind::Saved),
    };
    Ok(events.into_iter().filter(concerns).collect())
}

enum Matcher {
    All,
    Pattern(Regex),
    Name(String),
    Namespace(String),
    Id(u32),
}

impl Matcher {
    fn new(selector: &Selector, events: &[Event]) -> Option<Matcher> {
        let matchers = match selector {
            Selector::All => return Some(Matcher::All),
            Selector::Pattern(pattern) => vec![Matcher::Pattern(Regex::new(pattern).ok()?)],
            Selector::Word(word) => {
                let mut matchers = vec![Matcher::Name(word.clone()), Matcher::Namespace(word.clone())];
                matchers.extend(word.parse().ok().map(Matcher::Id));
                matchers
            }
        };
        matchers.into_iter().find(|test| events.iter().any(|event| test.matches(event)))
    }

    fn matches(&self, event: &Event) -> bool {
        let Some(process) = &event.process else { return false };
        match self {
            Matcher::All => true,
            Matcher::Pattern(regex) => regex.is_match(&process.name),
            Matcher::Name(name) => process.name == *name,
            Matcher::Namespace(namespace) => process.namespace == *namespace,
            Matcher::Id(id) => process.id == *id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::{EventProcess, Requester};

    fn event(at: u64, name: &str, kind: EventKind) -> Event {
        let process = EventProcess { id: 3, name: name.into(), namespace: "shop".into() };
        Event { seq: 1, at, process: Some(process), kind }
    }

    fn names(events: &[Event]) -> Vec<&str> {
        events.iter().filter_map(|event| Some(event.process.as_ref()?.name.as_str())).collect()
    }

    #[test]
    fn old_files_come_first_and_lines_that_are_no_event_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        assert_eq!(read(&home, 0, false).unwrap(), []);
        let by = Requester { uid: 0, pid: 7, command: "pmr start a -- --token abc DB_PASSWORD=x".into() };
        let asked = event(1, "a", EventKind::Requested { verb: "start".into(), by });
        let lines = [asked, event(2, "b", EventKind::Online)].map(|event| serde_json::to_string(&event).unwrap());
        std::fs::write(folder.path().join("history.ndjson.1"), format!("{}\n", lines[0])).unwrap();
        let newest = format!("(2 lines are missing)\n{}\n{{\"seq\":1,\"at\":3,\"ev", lines[1]);
        std::fs::write(home.history(), newest).unwrap();
        let events = read(&home, 0, false).unwrap();
        assert_eq!(names(&events), ["a", "b"]);
        let EventKind::Requested { by, .. } = &events[0].kind else { panic!("{events:?}") };
        assert_eq!(by.command, "pmr start a -- --token [redacted] DB_PASSWORD=[redacted]");
        assert_eq!(names(&read(&home, 2, false).unwrap()), ["b"]);
    }

    #[test]
    fn a_selector_is_matched_as_name_before_namespace_and_id() {
        let events = || {
            let saved = Event { seq: 9, at: 9, process: None, kind: EventKind::Saved };
            let ending = Event { seq: 9, at: 9, process: None, kind: EventKind::ShuttingDown };
            vec![event(1, "a", EventKind::Online), event(2, "3", EventKind::Online), saved, ending]
        };
        let word = |word: &str| [Selector::Word(word.into())];
        assert_eq!(names(&about(events(), &word("3")).unwrap()), ["3"]);
        assert_eq!(names(&about(events(), &word("shop")).unwrap()), ["a", "3"]);
        assert_eq!(about(events(), &word("a")).unwrap().len(), 2, "and the daemon's end");
        assert_eq!(about(events(), &[]).unwrap().len(), 4);
        assert!(about(events(), &word("missing")).is_err());
    }
}
