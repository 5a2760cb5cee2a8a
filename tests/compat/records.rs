//! Records of the supervisor: files with one `KEY JSON` on each line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pmr::protocol::{Exit, Run};
use pmr::supervisor::{Effect, Goal, Input, Moment, ProcessId, RecordKey, State, Supervisor};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/records")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn read(path: &Path) -> BTreeMap<RecordKey, String> {
    let text = fs::read_to_string(path).expect("the sample is there");
    let record = |line: &str| {
        let (key, value) = line.split_once(' ').expect("KEY JSON");
        (key.parse().expect("a key"), value.to_owned())
    };
    text.lines().map(record).collect()
}

fn load(records: &BTreeMap<RecordKey, String>) -> Supervisor {
    let records = records.iter().map(|(key, text)| (*key, text.as_str()));
    Supervisor::from_records(records).expect("it loads")
}

#[test]
fn records_of_every_version_load_without_loss() {
    let samples: Vec<PathBuf> = entries(&folder()).iter().flat_map(|version| entries(version)).collect();
    assert!(samples.len() >= 2, "{samples:?}");
    for path in samples {
        let records = read(&path);
        let written: BTreeMap<RecordKey, String> = load(&records).all_records().collect();
        assert!(written.keys().eq(records.keys()), "{}: {written:?}", path.display());
        for (key, text) in &records {
            assert!(holds(&json(&written[key]), &json(text)), "{}: {key} became {}", path.display(), written[key]);
        }
        assert_eq!(load(&written).all_records().collect::<BTreeMap<_, _>>(), written, "{}", path.display());
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// True if `newer` has everything that `older` has. It may have more.
fn holds(newer: &Value, older: &Value) -> bool {
    match (newer, older) {
        (Value::Object(newer), Value::Object(older)) => {
            older.iter().all(|(key, value)| newer.get(key).is_some_and(|newer| holds(newer, value)))
        }
        (Value::Array(newer), Value::Array(older)) => {
            newer.len() == older.len() && newer.iter().zip(older).all(|(newer, older)| holds(newer, older))
        }
        (newer, older) => newer == older,
    }
}

#[test]
fn a_version_1_supervisor_resumes_its_operations() {
    let mut supervisor = load(&read(&folder().join("1/busy.txt")));
    let now = Moment(2000);
    assert_eq!(supervisor.next_deadline(), Some(Moment(2100)));
    let expected = [
        Effect::Kill { run: Run(1) },
        Effect::Spawn { run: Run(5), process: ProcessId(1) },
        Effect::Drain { run: Run(3), grace: Duration::from_secs(4) },
        Effect::Terminate { run: Run(8) },
    ];
    assert_eq!(supervisor.unfinished(now), expected);
    let first = supervisor.process(ProcessId(0)).expect("it is there");
    assert_eq!((first.restarts, first.created, first.last_exit), (7, Moment(400), Some(Exit::Signal(9))));
    supervisor.handle(Moment(2100), Input::Tick);
    let waited = supervisor.process(ProcessId(3)).expect("it is there");
    assert!(matches!(waited.state, State::Launching { run: Run(13), .. }), "{waited:?}");
    let leave = Input::Exited { run: Run(8), exit: Exit::Unknown, survivors: false };
    assert!(supervisor.handle(now, leave).contains(&Effect::ProcessRemoved { process: ProcessId(5) }));
}

#[test]
fn a_version_1_supervisor_resumes_its_shutdown() {
    let supervisor = load(&read(&folder().join("1/closing.txt")));
    assert!(supervisor.is_closing());
    assert_eq!(supervisor.process(ProcessId(0)).map(|process| process.goal), Some(Goal::Down));
    assert_eq!(supervisor.unfinished(Moment(2000)), [Effect::Terminate { run: Run(1) }]);
}
