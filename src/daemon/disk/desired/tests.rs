//! Tests: which desired state is read from records, and which states have the same fingerprint.

use std::rc::Rc;

use super::*;
use crate::keeper::{SharedMemory, ledger};
use crate::protocol::{Action, Changes, Run, Scale};
use crate::spec::target::Selector;
use crate::supervisor::{Input, Moment, Proof, Request, Ticket};

fn sample() -> Snapshot {
    serde_json::from_str(include_str!("../../../../tests/compat/dumps/1/dump.json")).unwrap()
}

struct Harness {
    supervisor: Supervisor,
    ticket: u64,
}

impl Harness {
    fn new() -> Harness {
        let mut harness = Harness { supervisor: Supervisor::default(), ticket: 0 };
        harness.request(Request::Restore(sample()));
        for run in (1..=3).map(Run) {
            harness.supervisor.handle(Moment(1), Input::Spawned { run });
            harness.supervisor.handle(Moment(1), Input::Ready { run, proof: Proof::Message });
        }
        harness
    }

    fn request(&mut self, request: Request) {
        self.ticket += 1;
        self.supervisor.handle(Moment(1), Input::Request { ticket: Ticket(self.ticket), ask: request });
    }

    fn act(&mut self, action: Action, target: &str) {
        self.request(Request::Act { action, target: vec![Selector::parse(target).unwrap()] });
    }

    fn records(&self) -> Records {
        self.supervisor.all_records().map(|(key, json)| (key.to_string(), json)).collect()
    }
}

#[test]
fn the_desired_state_is_read_from_records() {
    let mut harness = Harness::new();
    assert_eq!(of_records(&harness.records()), (sample(), vec![]));
    harness.act(Action::Stop, "api");
    harness.act(Action::Delete, "job");
    let (snapshot, notes) = of_records(&harness.records());
    assert_eq!((snapshot.clone(), notes), (harness.supervisor.snapshot(), vec![]));
    assert!(snapshot.apps[0].processes.iter().all(|process| !process.up));
    harness.act(Action::Start(Changes::default()), "api");
    let (snapshot, _) = of_records(&harness.records());
    assert!(snapshot.apps[0].processes.iter().all(|process| process.up), "a start that still waits counts, too");
}

#[test]
fn processes_that_a_shutdown_stops_count_as_up() {
    let mut harness = Harness::new();
    let ledger = Ledger::start(Rc::new(SharedMemory::new().unwrap()), &Records::new()).unwrap();
    Ending::record(7, &harness.supervisor, &ledger);
    ledger.commit();
    harness.request(Request::ShutDown);
    let mut records = harness.records();
    assert_ne!(of_records(&records).0, sample());
    records.extend(ledger::read(ledger.file().unwrap()).unwrap());
    assert_eq!(of_records(&records).0, sample());
    assert_eq!(Ending::of(&records).unwrap().at, 7);
}

#[test]
fn a_record_that_cannot_be_read_loses_only_its_app() {
    let mut records = Harness::new().records();
    records.insert("spec/0".to_owned(), "{\"spec\":{}}".to_owned());
    records.insert("live/9".to_owned(), "ignored".to_owned());
    let (snapshot, notes) = of_records(&records);
    assert_eq!(snapshot.apps, sample().apps[1..]);
    assert!(
        notes.len() == 1 && notes[0].starts_with("the record `spec/0` could not be used: missing field"),
        "{notes:?}"
    );
}

#[test]
fn fingerprints_differ_exactly_when_the_desired_state_differs() {
    let (mut harness, mut prints) = (Harness::new(), Fingerprints::default());
    let mut now = |harness: &Harness| {
        let print = prints.of(&harness.supervisor);
        assert_eq!(print, Fingerprint::of(&harness.supervisor.snapshot()));
        print
    };
    let saved = Fingerprint::of(&sample());
    assert_eq!(now(&harness), saved);
    harness.act(Action::Reset, "all");
    harness.act(Action::Restart(Changes::default()), "api");
    assert_eq!(now(&harness), saved, "a restart changes nothing");
    let mut renumbered = sample();
    renumbered.apps.reverse();
    renumbered.apps[0].processes[0].id = 99;
    assert_eq!(Fingerprint::of(&renumbered), saved, "ids and order do not count");
    harness.act(Action::Stop, "job");
    let stopped = now(&harness);
    assert_ne!(stopped, saved);
    harness.act(Action::Start(Changes::default()), "job");
    assert_eq!(now(&harness), saved);
    let mut harness = Harness::new();
    let longer = vec![("kill_timeout".to_owned(), serde_json::json!(3000))];
    harness.act(Action::Start(Changes { settings: longer, base_env: None }), "job");
    let changed = now(&harness);
    harness.act(Action::Scale(Scale::Up(1)), "api");
    assert!(changed != saved && now(&harness) != changed);
    harness.act(Action::Delete, "all");
    assert_ne!(now(&harness), saved);
}
