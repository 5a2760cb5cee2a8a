//! What is read from records, and when two states are the same.

use std::rc::Rc;

use super::*;
use crate::keeper::{SharedMemory, ledger};
use crate::protocol::{Action, Changes, Run, Scale};
use crate::spec::target::Selector;
use crate::supervisor::{Input, Moment, Proof, Request, Ticket};

fn sample() -> Snapshot {
    serde_json::from_str(include_str!("../../../../tests/compat/dumps/1/dump.json")).unwrap()
}

struct Play {
    supervisor: Supervisor,
    ticket: u64,
}

impl Play {
    fn new() -> Play {
        let mut play = Play { supervisor: Supervisor::default(), ticket: 0 };
        play.ask(Request::Restore(sample()));
        for run in (1..=3).map(Run) {
            play.supervisor.handle(Moment(1), Input::Spawned { run });
            play.supervisor.handle(Moment(1), Input::Ready { run, proof: Proof::Message });
        }
        play
    }

    fn ask(&mut self, ask: Request) {
        self.ticket += 1;
        self.supervisor.handle(Moment(1), Input::Request { ticket: Ticket(self.ticket), ask });
    }

    fn act(&mut self, action: Action, target: &str) {
        self.ask(Request::Act { action, target: vec![Selector::parse(target).unwrap()] });
    }

    fn records(&self) -> Records {
        self.supervisor.all_records().map(|(key, json)| (key.to_string(), json)).collect()
    }
}

#[test]
fn records_tell_what_should_run() {
    let mut play = Play::new();
    assert_eq!(of_records(&play.records()), (sample(), vec![]));
    play.act(Action::Stop, "api");
    play.act(Action::Delete, "job");
    let (snapshot, notes) = of_records(&play.records());
    assert_eq!((snapshot.clone(), notes), (play.supervisor.snapshot(), vec![]));
    assert!(snapshot.apps[0].processes.iter().all(|process| !process.up));
    play.act(Action::Start(Changes::default()), "api");
    let (snapshot, _) = of_records(&play.records());
    assert!(snapshot.apps[0].processes.iter().all(|process| process.up), "a start that waits is a wish, too");
}

#[test]
fn what_the_end_stops_was_not_stopped_by_the_operator() {
    let mut play = Play::new();
    let ledger = Ledger::start(Rc::new(SharedMemory::new().unwrap()), &Records::new()).unwrap();
    Ending::note(7, &play.supervisor, &ledger);
    ledger.commit();
    play.ask(Request::ShutDown);
    let mut records = play.records();
    assert_ne!(of_records(&records).0, sample());
    records.extend(ledger::read(ledger.file().unwrap()).unwrap());
    assert_eq!(of_records(&records).0, sample());
    assert_eq!(Ending::of(&records).unwrap().at, 7);
}

#[test]
fn one_record_that_cannot_be_read_costs_one_app() {
    let mut records = Play::new().records();
    records.insert("spec/0".to_owned(), "{\"spec\":{}}".to_owned());
    records.insert("live/9".to_owned(), "what is not looked at".to_owned());
    let (snapshot, notes) = of_records(&records);
    assert_eq!(snapshot.apps, sample().apps[1..]);
    assert!(
        notes.len() == 1 && notes[0].starts_with("the record `spec/0` could not be used: missing field"),
        "{notes:?}"
    );
}

#[test]
fn fingerprints_tell_states_apart_and_nothing_else() {
    let (mut play, mut prints) = (Play::new(), Fingerprints::default());
    let mut now = |play: &Play| {
        let print = prints.of(&play.supervisor);
        assert_eq!(print, Fingerprint::of(&play.supervisor.snapshot()));
        print
    };
    let saved = Fingerprint::of(&sample());
    assert_eq!(now(&play), saved);
    play.act(Action::Reset, "all");
    play.act(Action::Restart(Changes::default()), "api");
    assert_eq!(now(&play), saved, "a restart changes nothing");
    let mut renumbered = sample();
    renumbered.apps.reverse();
    renumbered.apps[0].processes[0].id = 99;
    assert_eq!(Fingerprint::of(&renumbered), saved, "neither do ids, nor the order");
    play.act(Action::Stop, "job");
    let stopped = now(&play);
    assert_ne!(stopped, saved);
    play.act(Action::Start(Changes::default()), "job");
    assert_eq!(now(&play), saved);
    let mut play = Play::new();
    let longer = vec![("kill_timeout".to_owned(), serde_json::json!(3000))];
    play.act(Action::Start(Changes { settings: longer, base_env: None }), "job");
    let changed = now(&play);
    play.act(Action::Scale(Scale::Up(1)), "api");
    assert!(changed != saved && now(&play) != changed);
    play.act(Action::Delete, "all");
    assert_ne!(now(&play), saved);
}
