//! What is written when, what is read back, and what becomes of God while the disk does nothing.

use std::fs;
use std::rc::Rc;

use super::*;
use crate::keeper::{Records, SharedMemory, ledger};
use crate::os::eventually::eventually;

struct Scene {
    folder: tempfile::TempDir,
    home: Home,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("home"));
    fs::create_dir(home.root()).unwrap();
    Scene { folder, home }
}

/// One daemon's.
struct Life {
    ledger: Ledger,
    journal: Journal,
}

impl Scene {
    fn live(&self, inherited: &Records) -> Life {
        let ledger = Ledger::start(Rc::new(SharedMemory::new().unwrap()), inherited).unwrap();
        let lineage = inherited.get("lineage").cloned().unwrap_or_else(|| kernel_random("uuid").unwrap());
        ledger.put("lineage", &lineage);
        ledger.commit();
        let journal = Journal::start(&self.home, &ledger, &lineage, !inherited.is_empty()).unwrap();
        Life { ledger, journal }
    }

    fn loaded(&self) -> Loaded {
        let (loaded, notes) = load(&self.home.journal()).unwrap();
        assert_eq!(notes, [""; 0]);
        loaded.expect("there is a journal")
    }

    /// The records but for those of the house.
    fn records(&self) -> Records {
        of_its_own(self.loaded())
    }

    /// Waits until the journal holds this.
    fn comes_to(&self, expected: &[(&str, &str)]) {
        let expected: Records = expected.iter().map(|(key, json)| ((*key).into(), (*json).into())).collect();
        eventually("the journal has it", || {
            let loaded = load(&self.home.journal()).ok().and_then(|(loaded, _)| loaded);
            loaded.is_some_and(|loaded| of_its_own(loaded) == expected)
        });
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.root()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Life {
    fn put(&self, key: &str, json: &str) {
        self.ledger.put(key, json);
        self.ledger.commit();
    }
}

fn of_its_own(loaded: Loaded) -> Records {
    let mut records = loaded.records;
    records.retain(|key, _| key != "lineage" && key != "format");
    records
}

#[test]
fn what_is_committed_is_on_disk_but_for_what_dies_with_us() {
    let scene = scene();
    let life = scene.live(&Records::new());
    life.put("mind", "1");
    life.put("fd/rpc", "2");
    life.put("spec/0", "3");
    life.ledger.put("process/0", "4");
    life.ledger.put("cluster/0", "5");
    life.ledger.commit();
    scene.comes_to(&[("mind", "1"), ("spec/0", "3"), ("process/0", "4")]);
    life.ledger.remove("process/0");
    life.put("live/1", "6");
    scene.comes_to(&[("mind", "1"), ("spec/0", "3"), ("live/1", "6")]);
    let loaded = scene.loaded();
    assert!(loaded.same_boot);
    assert_eq!((&loaded.lineage, life.journal.state()), (&loaded.records["lineage"], JournalState::Whole));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(scene.home.journal()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_end_waits_for_what_is_still_to_be_written() {
    let scene = scene();
    let life = scene.live(&Records::new());
    for number in 0..1000 {
        life.put("spec/0", &number.to_string());
    }
    drop(life);
    assert_eq!(scene.records()["spec/0"], "999");
}

#[test]
fn a_daemon_with_nothing_of_its_own_leaves_the_one_before_alone() {
    let scene = scene();
    scene.live(&Records::new()).put("spec/0", "1");
    let before = scene.loaded();
    scene.live(&Records::new()).put("mind", "2");
    assert_eq!(scene.loaded(), before);
    scene.live(&Records::new()).put("spec/5", "3");
    assert_ne!(scene.loaded().lineage, before.lineage);
    assert_eq!(load(&scene.home.journal_before()).unwrap().0.unwrap().records, before.records);
    assert_eq!(scene.names(), ["journal", "journal.before"]);
}

#[test]
fn who_goes_on_with_the_records_goes_on_with_the_journal() {
    let scene = scene();
    scene.live(&Records::new()).put("spec/0", "1");
    let before = scene.loaded();
    let life = scene.live(&before.records);
    life.ledger.remove("spec/0");
    life.ledger.commit();
    drop(life);
    assert_eq!(scene.loaded().lineage, before.lineage);
    assert!(scene.records().is_empty(), "also what was deleted is written down");
    assert_eq!(scene.names(), ["journal"]);
}

#[test]
fn it_stays_short() {
    let scene = scene();
    let life = scene.live(&Records::new());
    let long = format!("\"{}\"", "x".repeat(2000));
    for round in 0..4000 {
        life.put(&format!("spec/{}", round % 5), &long);
        if round % 50 == 0 {
            eventually("it is taken", || lock(&life.journal.shared.inbox).bytes.is_empty());
        }
    }
    drop(life);
    assert!(fs::metadata(scene.home.journal()).unwrap().len() < 600 << 10, "8 MB were written to it");
    assert_eq!(scene.records().len(), 5);
}

#[test]
fn god_never_waits_and_the_inbox_is_bounded() {
    let scene = scene();
    let state = Mutex::default();
    let (path, before, lineage) = (scene.home.journal(), scene.home.journal_before(), "x".to_owned());
    let shared = Arc::new(Shared { path, before, lineage, inbox: Mutex::default(), state });
    let ledger = Ledger::start(Rc::new(SharedMemory::new().unwrap()), &Records::new()).unwrap();
    // A writer that hangs on a dead disk takes nothing.
    let feed = Feed { shared: Arc::clone(&shared), writer: std::thread::current() };
    ledger.set_sink(Box::new(feed)).unwrap();
    for number in 0..20_000 {
        ledger.put(&format!("spec/{}", number % 10), &format!("\"{number:0>200}\""));
        ledger.commit();
        assert!(lock(&shared.inbox).bytes.len() <= WAITING);
    }
    assert!(lock(&shared.inbox).overflown);
    // The disk is back.
    lock(&shared.inbox).closed = true;
    Writer::new(shared, "boot".into()).run();
    assert_eq!(scene.records(), {
        let mut records = ledger::read(ledger.file().unwrap()).unwrap();
        records.remove("format");
        records
    });
    assert_eq!(scene.records()["spec/9"], format!("\"{:0>200}\"", 19_999));
}

#[test]
fn trouble_is_known_and_ends_when_its_cause_is_gone() {
    let scene = scene();
    let life = scene.live(&Records::new());
    life.put("spec/0", "1");
    scene.comes_to(&[("spec/0", "1")]);
    let away = scene.folder.path().join("away");
    fs::rename(scene.home.root(), &away).unwrap();
    life.put("spec/0", "2");
    let mut known = JournalState::Whole;
    eventually("it is known", || {
        known = life.journal.state();
        known != JournalState::Whole
    });
    let JournalState::Broken { error, since } = known else { panic!("{known:?}") };
    assert_eq!(error, "No such file or directory");
    life.put("spec/1", "3");
    fs::rename(away, scene.home.root()).unwrap();
    eventually("all is well", || life.journal.state() == JournalState::Whole);
    assert!(since > 0);
    scene.comes_to(&[("spec/0", "2"), ("spec/1", "3")]);
}

#[test]
fn a_journal_that_somebody_deletes_is_written_anew() {
    let scene = scene();
    let life = scene.live(&Records::new());
    life.put("spec/0", "1");
    scene.comes_to(&[("spec/0", "1")]);
    fs::remove_file(scene.home.journal()).unwrap();
    life.put("process/0", "2");
    scene.comes_to(&[("spec/0", "1"), ("process/0", "2")]);
}

#[test]
fn a_torn_end_is_nothing_special() {
    let scene = scene();
    let life = scene.live(&Records::new());
    life.put("spec/0", "1");
    scene.comes_to(&[("spec/0", "1")]);
    let first = fs::read(scene.home.journal()).unwrap().len();
    life.put("process/0", "2");
    drop(life);
    let whole = fs::read(scene.home.journal()).unwrap();
    for cut in first..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        // After a power cut the rest of a block may be zeros.
        bytes.extend([0; 40]);
        fs::write(scene.home.journal(), bytes).unwrap();
        assert_eq!(scene.records(), Records::from([("spec/0".into(), "1".into())]), "cut at {cut}");
    }
    assert_eq!(scene.names(), ["journal"]);
}

#[test]
fn any_damaged_bit_costs_what_follows_it_and_nothing_is_deleted() {
    let scene = scene();
    let life = scene.live(&Records::new());
    for (key, json) in [("spec/0", "1"), ("process/0", "2"), ("process/1", "3")] {
        life.put(key, json);
        eventually("it is written", || scene.home.journal().exists() && scene.records().contains_key(key));
    }
    drop(life);
    let whole = fs::read(scene.home.journal()).unwrap();
    let last = whole.len() - "process/1 3\n".len() - frames::HEADER;
    for at in 0..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(scene.home.journal(), &bytes).unwrap();
        let (loaded, notes) = load(&scene.home.journal()).unwrap();
        let told = loaded.as_ref().map_or(&notes, |loaded| &loaded.notes);
        assert!(told.len() == 1 && told[0].contains("set aside"), "byte {at}: {told:?}");
        let asides: Vec<String> = scene.names().into_iter().filter(|name| name.contains("broken-")).collect();
        assert_eq!(asides.len(), 1, "byte {at}");
        let aside = scene.home.root().join(&asides[0]);
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        fs::remove_file(aside).unwrap();
        if let Some(loaded) = loaded {
            assert!(!loaded.records.contains_key("process/1"));
            assert_eq!(Loaded { notes: vec![], at: 0, ..scene.loaded() }, Loaded { notes: vec![], at: 0, ..loaded });
        } else {
            assert!(!scene.home.journal().exists());
        }
    }
}

#[test]
fn what_is_no_journal_of_ours_is_set_aside_before_it_is_in_the_way() {
    let scene = scene();
    let mut later = Vec::new();
    frames::add(&mut later, HEAD, Some("{\"format\":2,\"novelty\":true}"));
    for (bytes, why) in [(frames::frame(&later), "later version (format 2)"), (b"x".repeat(99), "does not begin as")] {
        fs::write(scene.home.journal(), &bytes).unwrap();
        let (loaded, notes) = load(&scene.home.journal()).unwrap();
        assert!(loaded.is_none() && notes[0].contains(why), "{notes:?}");
        fs::write(scene.home.journal(), &bytes).unwrap();
        scene.live(&Records::new()).put("spec/0", "1");
        assert_eq!(scene.records().len(), 1);
    }
    assert_eq!(scene.names().iter().filter(|name| name.contains("broken-")).count(), 4, "{:?}", scene.names());
}

#[test]
fn a_pipe_in_its_place_holds_nobody_up() {
    let scene = scene();
    nix::unistd::mkfifo(&scene.home.journal(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    scene.live(&Records::new()).put("spec/0", "1");
    assert_eq!(scene.records().len(), 1);
}
