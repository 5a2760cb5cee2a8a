//! The last intercepted call of a worker and its answer, recorded in the ledger, so that the next God answers a call
//! that this one did not.

use serde::{Deserialize, Serialize};

use crate::cluster::persist::StateStore;
use crate::keeper::{Ledger, Records};
use crate::os::seccomp::{Answer, Request, RequestId};
use crate::protocol::Run;

/// The prefix of the keys of these records. The rest is the run's number.
const PREFIX: &str = "bind/";

/// The journals of this app's workers. An unreadable one is logged and left out.
pub(crate) fn of_app<'a>(store: &'a StateStore, records: &'a Records) -> impl Iterator<Item = Journal> {
    let known = records.iter().filter_map(|(key, json)| Some((Run(key.strip_prefix(PREFIX)?.parse().ok()?), json)));
    known.filter_map(|(run, json)| match serde_json::from_str::<Record>(json) {
        Ok(record) => (record.app == store.app).then(|| Journal::with(store, run, record)),
        Err(error) => {
            tracing::error!(run = run.0, %error, "the last call of a worker cannot be read from the ledger");
            None
        }
    })
}

/// The journal of one worker. One call is enough, since none is received while another is handled.
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
    /// The answer to `last`, once it is decided.
    #[serde(default)]
    answer: Option<Answer>,
}

impl Journal {
    /// Records a worker that has made no call yet.
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

    /// The pid of the worker's main process.
    pub(crate) fn root(&self) -> i32 {
        self.record.root
    }

    /// The last call, and its answer if one was decided. The worker may have got that answer.
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
            Err(error) => tracing::error!(%error, "a worker's call cannot be recorded"),
        }
        self.ledger.commit();
    }

    /// Removes the record: no process of the worker is left.
    pub(crate) fn forget(&self) {
        self.ledger.remove(&self.key);
        self.ledger.commit();
    }
}
