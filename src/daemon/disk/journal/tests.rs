//! Tests: what is written to the journal and when, what is read from it, and that God does not wait for the disk.

use std::fs;
use std::rc::Rc;

use super::*;
use crate::keeper::{Records, SharedMemory, ledger};
use crate::os::eventually::eventually;

struct Fixture {
    folder: tempfile::TempDir,
    home: Home,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("home"));
    fs::create_dir(home.root()).unwrap();
    Fixture { folder, home }
}

/// Ledger and journal of one daemon.
struct Daemon {
    ledger: Ledger,
    journal: Journal,
}

impl Fixture {
    /// Starts a daemon with these records; one without records has a lineage of its own.
    fn start(&self, inherited: &Records) -> Daemon {
        let ledger = Ledger::start(Rc::new(SharedMemory::new().unwrap()), inherited).unwrap();
        let lineage = inherited.get("lineage").cloned().unwrap_or_else(|| kernel_random("uuid").unwrap());
        ledger.put("lineage", &lineage);
        ledger.commit();
        let journal = Journal::start(&self.home, &ledger, &lineage, !inherited.is_empty()).unwrap();
        Daemon { ledger, journal }
    }

    fn loaded(&self) -> Loaded {
        let (loaded, notes) = load(&self.home.journal()).unwrap();
        assert_eq!(notes, [""; 0]);
        loaded.expect("there is a journal")
    }

    /// The records in the journal, without lineage and format.
    fn records(&self) -> Records {
        records_of(self.loaded())
    }

    /// Waits until the journal has these records.
    fn wait_for(&self, expected: &[(&str, &str)]) {
        let expected: Records = expected.iter().map(|(key, json)| ((*key).into(), (*json).into())).collect();
        eventually("the journal has it", || {
            let loaded = load(&self.home.journal()).ok().and_then(|(loaded, _)| loaded);
            loaded.is_some_and(|loaded| records_of(loaded) == expected)
        });
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.root()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Daemon {
    fn put(&self, key: &str, json: &str) {
        self.ledger.put(key, json);
        self.ledger.commit();
    }
}

fn records_of(loaded: Loaded) -> Records {
    let mut records = loaded.records;
    records.retain(|key, _| key != "lineage" && key != "format");
    records
}

#[test]
fn all_commits_are_written_except_records_of_open_files_and_connections() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    daemon.put("mind", "1");
    daemon.put("fd/rpc", "2");
    daemon.put("spec/0", "3");
    daemon.ledger.put("process/0", "4");
    daemon.ledger.put("cluster/0", "5");
    daemon.ledger.commit();
    fixture.wait_for(&[("mind", "1"), ("spec/0", "3"), ("process/0", "4")]);
    daemon.ledger.remove("process/0");
    daemon.put("live/1", "6");
    fixture.wait_for(&[("mind", "1"), ("spec/0", "3"), ("live/1", "6")]);
    let loaded = fixture.loaded();
    assert!(loaded.same_boot);
    assert_eq!((&loaded.lineage, daemon.journal.state()), (&loaded.records["lineage"], JournalState::Working));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(fixture.home.journal()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn dropping_the_journal_waits_until_all_is_written() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    for number in 0..1000 {
        daemon.put("spec/0", &number.to_string());
    }
    drop(daemon);
    assert_eq!(fixture.records()["spec/0"], "999");
}

#[test]
fn a_daemon_without_apps_leaves_the_journal_of_the_one_before_alone() {
    let fixture = fixture();
    fixture.start(&Records::new()).put("spec/0", "1");
    let before = fixture.loaded();
    fixture.start(&Records::new()).put("mind", "2");
    assert_eq!(fixture.loaded(), before);
    fixture.start(&Records::new()).put("spec/5", "3");
    assert_ne!(fixture.loaded().lineage, before.lineage);
    assert_eq!(load(&fixture.home.journal_before()).unwrap().0.unwrap().records, before.records);
    assert_eq!(fixture.names(), ["journal", "journal.before"]);
}

#[test]
fn a_daemon_that_continues_with_the_records_continues_the_journal() {
    let fixture = fixture();
    fixture.start(&Records::new()).put("spec/0", "1");
    let before = fixture.loaded();
    let daemon = fixture.start(&before.records);
    daemon.ledger.remove("spec/0");
    daemon.ledger.commit();
    drop(daemon);
    assert_eq!(fixture.loaded().lineage, before.lineage);
    assert!(fixture.records().is_empty(), "a deletion is written, too");
    assert_eq!(fixture.names(), ["journal"]);
}

#[test]
fn a_journal_that_has_grown_long_is_rewritten() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    let long = format!("\"{}\"", "x".repeat(2000));
    for round in 0..4000 {
        daemon.put(&format!("spec/{}", round % 5), &long);
        if round % 50 == 0 {
            eventually("the inbox is empty", || lock(&daemon.journal.shared.inbox).bytes.is_empty());
        }
    }
    drop(daemon);
    assert!(fs::metadata(fixture.home.journal()).unwrap().len() < 600 << 10, "8 MB were written to it");
    assert_eq!(fixture.records().len(), 5);
}

#[test]
fn god_never_waits_and_the_inbox_is_bounded() {
    let fixture = fixture();
    let state = Mutex::default();
    let (path, before, lineage) = (fixture.home.journal(), fixture.home.journal_before(), "x".to_owned());
    let shared = Arc::new(Shared { path, before, lineage, inbox: Mutex::default(), state });
    let ledger = Ledger::start(Rc::new(SharedMemory::new().unwrap()), &Records::new()).unwrap();
    // No writer takes anything, as if it hung on a dead disk.
    let sink = JournalSink { shared: Arc::clone(&shared), writer: std::thread::current() };
    ledger.set_sink(Box::new(sink)).unwrap();
    for number in 0..20_000 {
        ledger.put(&format!("spec/{}", number % 10), &format!("\"{number:0>200}\""));
        ledger.commit();
        assert!(lock(&shared.inbox).bytes.len() <= INBOX_BYTES);
    }
    assert!(lock(&shared.inbox).overflowed);
    // The disk works again.
    lock(&shared.inbox).closed = true;
    Writer::new(shared, "boot".into()).run();
    assert_eq!(fixture.records(), {
        let mut records = ledger::read(ledger.file().unwrap()).unwrap();
        records.remove("format");
        records
    });
    assert_eq!(fixture.records()["spec/9"], format!("\"{:0>200}\"", 19_999));
}

#[test]
fn a_write_error_is_reported_until_the_journal_can_be_written_again() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    daemon.put("spec/0", "1");
    fixture.wait_for(&[("spec/0", "1")]);
    let away = fixture.folder.path().join("away");
    fs::rename(fixture.home.root(), &away).unwrap();
    daemon.put("spec/0", "2");
    let mut state = JournalState::Working;
    eventually("the error is reported", || {
        state = daemon.journal.state();
        state != JournalState::Working
    });
    let JournalState::Failing { error, since } = state else { panic!("{state:?}") };
    assert_eq!(error, "No such file or directory");
    daemon.put("spec/1", "3");
    fs::rename(away, fixture.home.root()).unwrap();
    eventually("the journal is written again", || daemon.journal.state() == JournalState::Working);
    assert!(since > 0);
    fixture.wait_for(&[("spec/0", "2"), ("spec/1", "3")]);
}

#[test]
fn a_deleted_journal_is_written_anew() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    daemon.put("spec/0", "1");
    fixture.wait_for(&[("spec/0", "1")]);
    fs::remove_file(fixture.home.journal()).unwrap();
    daemon.put("process/0", "2");
    fixture.wait_for(&[("spec/0", "1"), ("process/0", "2")]);
}

#[test]
fn an_incomplete_last_record_is_ignored_without_a_note() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    daemon.put("spec/0", "1");
    fixture.wait_for(&[("spec/0", "1")]);
    let first = fs::read(fixture.home.journal()).unwrap().len();
    daemon.put("process/0", "2");
    drop(daemon);
    let whole = fs::read(fixture.home.journal()).unwrap();
    for cut in first..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        // After a power cut the rest of a block may be zeros.
        bytes.extend([0; 40]);
        fs::write(fixture.home.journal(), bytes).unwrap();
        assert_eq!(fixture.records(), Records::from([("spec/0".into(), "1".into())]), "cut at {cut}");
    }
    assert_eq!(fixture.names(), ["journal"]);
}

#[test]
fn records_after_a_damaged_bit_are_lost_and_the_damaged_file_is_set_aside() {
    let fixture = fixture();
    let daemon = fixture.start(&Records::new());
    for (key, json) in [("spec/0", "1"), ("process/0", "2"), ("process/1", "3")] {
        daemon.put(key, json);
        eventually("it is written", || fixture.home.journal().exists() && fixture.records().contains_key(key));
    }
    drop(daemon);
    let whole = fs::read(fixture.home.journal()).unwrap();
    let last = whole.len() - "process/1 3\n".len() - frames::HEADER;
    for at in 0..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(fixture.home.journal(), &bytes).unwrap();
        let (loaded, notes) = load(&fixture.home.journal()).unwrap();
        let notes = loaded.as_ref().map_or(&notes, |loaded| &loaded.notes);
        assert!(notes.len() == 1 && notes[0].contains("set aside"), "byte {at}: {notes:?}");
        let asides: Vec<String> = fixture.names().into_iter().filter(|name| name.contains("broken-")).collect();
        assert_eq!(asides.len(), 1, "byte {at}");
        let aside = fixture.home.root().join(&asides[0]);
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        fs::remove_file(aside).unwrap();
        if let Some(loaded) = loaded {
            assert!(!loaded.records.contains_key("process/1"));
            assert_eq!(Loaded { notes: vec![], at: 0, ..fixture.loaded() }, Loaded { notes: vec![], at: 0, ..loaded });
        } else {
            assert!(!fixture.home.journal().exists());
        }
    }
}

#[test]
fn a_file_that_is_no_journal_or_of_a_later_format_is_set_aside() {
    let fixture = fixture();
    let mut later = Vec::new();
    frames::add(&mut later, HEAD, Some("{\"format\":2,\"novelty\":true}"));
    for (bytes, why) in [(frames::frame(&later), "later version (format 2)"), (b"x".repeat(99), "does not begin as")] {
        fs::write(fixture.home.journal(), &bytes).unwrap();
        let (loaded, notes) = load(&fixture.home.journal()).unwrap();
        assert!(loaded.is_none() && notes[0].contains(why), "{notes:?}");
        fs::write(fixture.home.journal(), &bytes).unwrap();
        fixture.start(&Records::new()).put("spec/0", "1");
        assert_eq!(fixture.records().len(), 1);
    }
    assert_eq!(fixture.names().iter().filter(|name| name.contains("broken-")).count(), 4, "{:?}", fixture.names());
}

#[test]
fn a_named_pipe_in_place_of_the_journal_does_not_block() {
    let fixture = fixture();
    nix::unistd::mkfifo(&fixture.home.journal(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fixture.start(&Records::new()).put("spec/0", "1");
    assert_eq!(fixture.records().len(), 1);
}
