//! Journals, and the lists written by `pmr save` and by a daemon that ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pmr::daemon::disk::desired::{Ending, of_records};
use pmr::daemon::disk::dump;
use pmr::daemon::disk::journal;
use pmr::daemon::disk::journal::Loaded;
use pmr::keeper::frames;
use pmr::paths::Home;
use pmr::supervisor::{RecordKey, Snapshot, Supervisor};

fn sample(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(path)
}

/// Loads a copy of the sample, because loading sets a damaged file aside.
fn load(path: &str) -> Loaded {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("journal");
    fs::copy(sample(path), &copy).expect("the sample is there");
    let (loaded, notes) = journal::load(&copy).expect("it can be read");
    assert!(notes.is_empty(), "{notes:?}");
    loaded.expect("it is a journal")
}

fn processes(snapshot: &Snapshot) -> Vec<(&str, u32, u32, bool)> {
    let of = |app: &'_ pmr::supervisor::SavedApp| app.processes.clone();
    let all = snapshot.apps.iter().flat_map(|app| of(app).into_iter().map(move |process| (app, process)));
    all.map(|(app, process)| (app.spec.name.as_str(), process.id, process.instance, process.up)).collect()
}

#[test]
fn a_version_1_journal_of_a_killed_daemon_loads() {
    let loaded = load("journals/1/killed");
    assert!(!loaded.same_boot && loaded.notes.is_empty());
    assert_eq!((loaded.lineage.as_str(), &loaded.records["lineage"]), ("5a1f4a866f0e4d3c", &loaded.lineage));
    assert_eq!(Ending::of(&loaded.records), None);
    let (snapshot, notes) = of_records(&loaded.records);
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(processes(&snapshot), [("api", 0, 0, true), ("api", 1, 1, true), ("job", 2, 0, false)]);
    assert_eq!(loaded.records["live/4"], "{\"pid\":4711}", "what others write is not looked at");
    let keys = loaded.records.iter().filter_map(|(key, json)| Some((key.parse::<RecordKey>().ok()?, json.as_str())));
    let supervisor = Supervisor::from_records(keys).expect("a daemon can go on with it");
    assert_eq!(supervisor.processes().count(), 3);
}

#[test]
fn a_version_1_journal_of_a_daemon_that_was_told_to_end_loads() {
    let loaded = load("journals/1/ended");
    let ending = Ending::of(&loaded.records).expect("the daemon was told to end");
    assert_eq!((ending.at, ending.up), (1_795_269_780_000, vec![0, 1]));
    let (snapshot, _) = of_records(&loaded.records);
    assert_eq!(processes(&snapshot), [("api", 0, 0, true), ("api", 1, 1, true), ("job", 2, 0, false)]);
}

#[test]
fn a_torn_version_1_journal_loads_without_its_last_frame() {
    assert_eq!(load("journals/1/torn").records, load("journals/1/killed").records);
}

#[test]
fn a_version_1_list_loads_and_is_written_without_loss() {
    for (file, job_is_up) in [("dump.json", true), ("last.json", false)] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::copy(sample("dumps/1").join(file), folder.path().join(file)).expect("the sample is there");
        let home = Home::new(folder.path().to_owned());
        let (snapshot, notes) = dump::load(&home, "another").expect("the list loads");
        assert!(notes.len() == 1 && notes[0].contains(file), "{notes:?}");
        assert_eq!(processes(&snapshot), [("api", 0, 0, true), ("api", 1, 1, true), ("job", 2, 0, job_is_up)]);
        let written = serde_json::to_string(&snapshot).expect("JSON");
        let again: Snapshot = serde_json::from_str(&written).expect("JSON");
        assert_eq!(again, snapshot, "nothing of it is lost");
    }
}

/// The sample is a sequence of frames, and the first one holds the head.
#[test]
fn a_version_1_journal_has_its_head_in_a_frame_of_its_own() {
    let bytes = fs::read(sample("journals/1/killed")).expect("the sample is there");
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let mut records = BTreeMap::new();
    assert_eq!(frames::read(&bytes[..frames::HEADER + length], &mut records), frames::HEADER + length);
    assert!(records.len() == 1 && records["journal"].contains("\"format\":1"), "{records:?}");
}
