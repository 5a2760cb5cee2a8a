//! Tests: which list is restored, in each combination of journal and saved list.

use std::os::unix::fs::PermissionsExt;

use super::super::desired::{ENDING, Ending};
use super::*;
use crate::keeper::frames;

struct Fixture {
    _folder: tempfile::TempDir,
    home: Home,
}

/// The lineage of the daemon that restores a list; journals of another lineage are those of daemons before.
const OURS: &str = "ours";

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().to_owned());
    Fixture { _folder: folder, home }
}

/// A list of one app of this name, by which the tests tell lists apart; an empty list if the name is empty.
fn list(name: &str) -> Snapshot {
    let spec = |name: &str| {
        let text = include_str!("../../../../tests/compat/dumps/1/dump.json");
        let mut sample: Snapshot = serde_json::from_str(text).unwrap();
        name.clone_into(&mut sample.apps[0].spec.name);
        sample.apps.truncate(1);
        sample.apps
    };
    Snapshot { version: Snapshot::VERSION, apps: if name.is_empty() { vec![] } else { spec(name) } }
}

impl Fixture {
    fn save(&self, name: &str) {
        save(&self.home, &list(name)).unwrap();
    }

    /// Writes a journal of this lineage to `path`, with an app of this name, or without apps if the name is empty.
    fn write_journal(&self, path: &Path, lineage: &str, name: &str) {
        let mut head = Vec::new();
        let json = format!("{{\"format\":1,\"boot\":\"x\",\"lineage\":\"{lineage}\"}}");
        frames::add(&mut head, "journal", Some(&json));
        let mut rest = Vec::new();
        frames::add(&mut rest, "mind", Some("{\"version\":1,\"closing\":true}"));
        for app in list(name).apps {
            let spec = serde_json::to_string(&app.spec).unwrap();
            frames::add(&mut rest, "spec/0", Some(&format!("{{\"spec\":{spec}}}")));
            frames::add(&mut rest, "process/0", Some("{\"id\":0,\"app\":0,\"instance\":0,\"goal\":\"down\"}"));
            let ending = serde_json::to_string(&Ending { at: 0, up: vec![0], idle: vec![] }).unwrap();
            frames::add(&mut rest, ENDING, Some(&ending));
        }
        fs::write(path, [frames::frame(&head), frames::frame(&rest)].concat()).unwrap();
    }

    /// Sets the time of the last change of a file to so many seconds ago.
    fn set_age(&self, path: &Path, seconds: u64) {
        let at = SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    fn set_autosave(&self, on: bool) {
        fs::write(self.home.settings(), format!("{{\"autosave\": {on}}}")).unwrap();
    }

    /// The name of the app that is restored; empty if the list is empty.
    fn restored(&self) -> String {
        let (snapshot, notes) = load(&self.home, OURS).unwrap();
        assert!(notes.last().unwrap().starts_with("this is "), "{notes:?}");
        snapshot.apps.first().map_or(String::new(), |app| app.spec.name.clone())
    }
}

#[test]
fn a_saved_list_is_restored_and_only_its_owner_can_read_it() {
    let fixture = fixture();
    fixture.save("api");
    let (snapshot, notes) = load(&fixture.home, OURS).unwrap();
    assert_eq!(snapshot, list("api"));
    assert!(notes.len() == 1 && notes[0].contains("dump.json"), "{notes:?}");
    assert_eq!(fs::metadata(fixture.home.dump_file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(saved(&fixture.home).unwrap().fingerprint, Fingerprint::of(&snapshot));
}

#[test]
fn at_a_boot_autosave_decides_which_list_is_restored() {
    let fixture = fixture();
    fixture.save("saved");
    fixture.write_journal(&fixture.home.journal(), "before", "ran");
    fixture.set_age(&fixture.home.journal(), 60);
    assert_eq!(fixture.restored(), "ran", "autosave is on by default, and the times of files do not count");
    fixture.set_autosave(false);
    assert_eq!(fixture.restored(), "saved");
    fs::remove_file(fixture.home.dump_file()).unwrap();
    assert_eq!(fixture.restored(), "ran", "there is no saved list");
}

#[test]
fn the_saved_list_is_restored_when_the_journal_has_no_app() {
    let fixture = fixture();
    fixture.save("saved");
    fixture.write_journal(&fixture.home.journal(), "before", "");
    assert_eq!(fixture.restored(), "saved");
    fixture.save("");
    assert_eq!(fixture.restored(), "", "an empty list that was saved with force counts as a list");
}

#[test]
fn a_daemon_that_has_run_apps_restores_the_later_of_the_two_lists() {
    let fixture = fixture();
    let (journal, before) = (fixture.home.journal(), fixture.home.journal_before());
    fixture.write_journal(&journal, OURS, "runs");
    fixture.write_journal(&before, "before", "ran");
    fixture.save("saved");
    fixture.set_age(&before, 60);
    assert_eq!(fixture.restored(), "saved", "an operator who saved and then deleted wants the saved list");
    fixture.set_age(&fixture.home.dump_file(), 120);
    assert_eq!(fixture.restored(), "ran", "an operator who ended the daemon and started one app wants the others, too");
    fixture.set_autosave(false);
    assert_eq!(fixture.restored(), "saved");
}

#[test]
fn a_broken_file_is_set_aside_and_the_one_before_is_used() {
    let fixture = fixture();
    fixture.save("first");
    fixture.save("second");
    fs::write(fixture.home.dump_file(), "{\"version\": 1, \"app").unwrap();
    fs::write(fixture.home.journal(), "no journal").unwrap();
    fs::write(fixture.home.settings(), "no settings").unwrap();
    let (snapshot, notes) = load(&fixture.home, OURS).unwrap();
    assert_eq!(snapshot, list("first"));
    assert!(notes.len() == 4 && notes[0].contains("autosave is taken to be on"), "{notes:?}");
    assert!(notes[1].contains("journal.broken-") && notes[2].contains("dump.broken-"), "{notes:?}");
    let names = fs::read_dir(fixture.home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("broken-")).count(), 2);
}

#[test]
fn a_list_of_a_later_format_is_refused() {
    let fixture = fixture();
    save(&fixture.home, &Snapshot { version: Snapshot::VERSION + 1, apps: vec![] }).unwrap();
    assert!(saved(&fixture.home).is_none());
    assert!(matches!(load(&fixture.home, OURS), Err(Refusal::Failed { .. })));
}

#[test]
fn the_last_state_is_restored_only_when_there_is_no_other_list() {
    let fixture = fixture();
    assert!(matches!(load(&fixture.home, OURS), Err(Refusal::NothingSaved { .. })));
    write(&fixture.home.last_state(), &list("last")).unwrap();
    assert_eq!(fixture.restored(), "last");
    fixture.save("saved");
    assert_eq!(fixture.restored(), "saved");
}
