//! What a worker asked for last, and what it was or is to be told: in the ledger, so that the next God answers what this
//! one could not.

use serde::{Deserialize, Serialize};

use crate::cluster::persist::StateStore;
use crate::keeper::{Ledger, Records};
use crate::os::seccomp::{Answer, Request, RequestId};
use crate::protocol::Run;

/// What keys of these records begin with; the rest is the run.
const PREFIX: &str = "bind/";

/// Those that were written down for workers of this app.
pub(crate) fn of_app<'a>(store: &'a StateStore, records: &'a Records) -> impl Iterator<Item = Journal> {
    let known = records.iter().filter_map(|(key, json)| Some((Run(key.strip_prefix(PREFIX)?.parse().ok()?), json)));
    known.filter_map(|(run, json)| match serde_json::from_str::<Record>(json) {
        Ok(record) => (record.app == store.app).then(|| Journal::with(store, run, record)),
        Err(error) => {
            tracing::error!(run = run.0, %error, "what a worker asked for is not known");
            None
        }
    })
}

/// The last call of one worker. They come one after another: while one is handled, no other is received.
#[derive(Debug)]
pub(crate) struct Journal {
    run: Run,
    key: String,
    ledger: Ledger,
    record: Record,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    app: u32,
    root: i32,
    #[serde(default)]
    last: Option<Request>,
    /// Of that one, once it is decided.
    #[serde(default)]
    answer: Option<Answer>,
}

impl Journal {
    pub(crate) fn new(store: &StateStore, run: Run, root: i32) -> Journal {
        let record = Record { app: store.app, root, last: None, answer: None };
        let journal = Journal::with(store, run, record);
        journal.write();
        journal
    }

    fn with(store: &StateStore, run: Run, record: Record) -> Journal {
        Journal { run, key: format!("{PREFIX}{}", run.0), ledger: store.persistence.ledger.clone(), record }
    }

    pub(crate) fn run(&self) -> Run {
        self.run
    }

    /// Its main process.
    pub(crate) fn root(&self) -> i32 {
        self.record.root
    }

    /// The last call, and its answer if it was decided. It may have been answered.
    pub(crate) fn last(&self) -> Option<(Request, Option<Answer>)> {
        self.record.last.clone().map(|request| (request, self.record.answer))
    }

    pub(crate) fn last_id(&self) -> Option<RequestId> {
        self.record.last.as_ref().map(|request| request.id)
    }

    pub(crate) fn received(&mut self, request: &Request) {
        (self.record.last, self.record.answer) = (Some(request.clone()), None);
        self.write();
    }

    pub(crate) fn decided(&mut self, answer: Answer) {
        self.record.answer = Some(answer);
        self.write();
    }

    fn write(&self) {
        match serde_json::to_string(&self.record) {
            Ok(json) => self.ledger.put(&self.key, &json),
            Err(error) => tracing::error!(%error, "a worker's call cannot be written down"),
        }
        self.ledger.commit();
    }

    /// The worker is no more.
    pub(crate) fn forget(&self) {
        self.ledger.remove(&self.key);
        self.ledger.commit();
    }
}
