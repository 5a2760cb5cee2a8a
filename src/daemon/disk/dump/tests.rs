//! Which list comes back, in every case that there are two.

use std::os::unix::fs::PermissionsExt;

use super::super::desired::{ENDING, Ending};
use super::*;
use crate::keeper::frames;

struct Scene {
    _folder: tempfile::TempDir,
    home: Home,
}

/// The daemon that asks; other journals are those of daemons before.
const OURS: &str = "ours";

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().to_owned());
    Scene { _folder: folder, home }
}

/// A list of one app of this name; by it the lists are told apart.
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

impl Scene {
    fn save(&self, name: &str) {
        save(&self.home, &list(name)).unwrap();
    }

    /// A journal of this line at `path` with this app, or without apps.
    fn ran(&self, path: &Path, lineage: &str, name: &str) {
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

    fn age(&self, path: &Path, seconds: u64) {
        let at = SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    fn autosave(&self, on: bool) {
        fs::write(self.home.settings(), format!("{{\"autosave\": {on}}}")).unwrap();
    }

    /// The name of the app that comes back; empty if none does.
    fn back(&self) -> String {
        let (snapshot, notes) = load(&self.home, OURS).unwrap();
        assert!(notes.last().unwrap().starts_with("this is "), "{notes:?}");
        snapshot.apps.first().map_or(String::new(), |app| app.spec.name.clone())
    }
}

#[test]
fn what_is_saved_comes_back_and_is_private() {
    let scene = scene();
    scene.save("api");
    let (snapshot, notes) = load(&scene.home, OURS).unwrap();
    assert_eq!(snapshot, list("api"));
    assert!(notes.len() == 1 && notes[0].contains("dump.json"), "{notes:?}");
    assert_eq!(fs::metadata(scene.home.dump_file()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(saved(&scene.home).unwrap().fingerprint, Fingerprint::of(&snapshot));
}

#[test]
fn at_a_boot_autosave_decides() {
    let scene = scene();
    scene.save("saved");
    scene.ran(&scene.home.journal(), "before", "ran");
    scene.age(&scene.home.journal(), 60);
    assert_eq!(scene.back(), "ran", "on, as it is by default; a clock that jumped means nothing");
    scene.autosave(false);
    assert_eq!(scene.back(), "saved");
    fs::remove_file(scene.home.dump_file()).unwrap();
    assert_eq!(scene.back(), "ran", "better than nothing");
}

#[test]
fn where_nothing_ran_the_saved_list_comes_back() {
    let scene = scene();
    scene.save("saved");
    scene.ran(&scene.home.journal(), "before", "");
    assert_eq!(scene.back(), "saved");
    scene.save("");
    assert_eq!(scene.back(), "", "an empty list that was saved by force is one, too");
}

#[test]
fn in_the_middle_of_a_life_the_later_one_comes_back() {
    let scene = scene();
    let (journal, before) = (scene.home.journal(), scene.home.journal_before());
    scene.ran(&journal, OURS, "runs");
    scene.ran(&before, "before", "ran");
    scene.save("saved");
    scene.age(&before, 60);
    assert_eq!(scene.back(), "saved", "somebody saved, deleted and wants it back");
    scene.age(&scene.home.dump_file(), 120);
    assert_eq!(scene.back(), "ran", "somebody ended the daemon, started one app and wants the others back");
    scene.autosave(false);
    assert_eq!(scene.back(), "saved");
}

#[test]
fn a_broken_file_is_set_aside_and_the_one_before_is_used() {
    let scene = scene();
    scene.save("first");
    scene.save("second");
    fs::write(scene.home.dump_file(), "{\"version\": 1, \"app").unwrap();
    fs::write(scene.home.journal(), "no journal").unwrap();
    fs::write(scene.home.settings(), "no settings").unwrap();
    let (snapshot, notes) = load(&scene.home, OURS).unwrap();
    assert_eq!(snapshot, list("first"));
    assert!(notes.len() == 4 && notes[0].contains("autosave is taken to be on"), "{notes:?}");
    assert!(notes[1].contains("journal.broken-") && notes[2].contains("dump.broken-"), "{notes:?}");
    let names = fs::read_dir(scene.home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("broken-")).count(), 2);
}

#[test]
fn a_later_format_is_not_guessed_at() {
    let scene = scene();
    save(&scene.home, &Snapshot { version: Snapshot::VERSION + 1, apps: vec![] }).unwrap();
    assert!(saved(&scene.home).is_none());
    assert!(matches!(load(&scene.home, OURS), Err(Refusal::Failed { .. })));
}

#[test]
fn nothing_saved_says_where_it_looked_and_the_last_state_is_the_last_resort() {
    let scene = scene();
    assert!(matches!(load(&scene.home, OURS), Err(Refusal::NothingSaved { .. })));
    write(&scene.home.last_state(), &list("last")).unwrap();
    assert_eq!(scene.back(), "last");
    scene.save("saved");
    assert_eq!(scene.back(), "saved");
}
