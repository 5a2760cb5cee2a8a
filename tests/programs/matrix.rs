//! All programs, as root and as an ordinary user, with a row of the table for each.

use std::panic;
use std::sync::Mutex;
use std::{env, fs, thread};

use nix::unistd::Uid;

use crate::catalog::{PROGRAMS, Program};
use crate::premises::{self, Missing};
use crate::story::{NOBODY, Who, tell};
use crate::table::Table;

const RELOADS: usize = 5;
/// Stories at a time.
const AT_ONCE: usize = 2;

/// A row that is due.
type Due = (usize, &'static Program, Who);

/// Whom programs are run as: as an ordinary user too, if root runs the tests.
pub fn everybody() -> &'static [Who] {
    if Uid::effective().is_root() { &[Who::Tester, Who::Nobody] } else { &[Who::Tester] }
}

/// Whether the program can be run by him, made ready.
pub fn ready(program: &'static Program, who: Who) -> Result<(), Missing> {
    premises::prepare(program)?;
    match who {
        Who::Tester => Ok(()),
        Who::Nobody => premises::reachable(NOBODY, program),
    }
}

fn asked_for(program: &Program) -> bool {
    let Ok(words) = env::var("PMR_PROGRAMS") else { return true };
    words.split(',').any(|word| program.name.to_lowercase().contains(&word.to_lowercase()))
}

fn row((at, program, who): Due, table: &Mutex<Table>) {
    let outcome = ready(program, who).map(|()| panic::catch_unwind(|| tell(program, who, RELOADS)));
    let mut table = table.lock().expect("nothing panics while it is locked");
    let name = format!("{} as {who}", program.name);
    match outcome {
        Err(Missing(what)) => {
            table.missing(program);
            table.fault(&name, &format!("{what} is not here: run `.ci/programs all`"));
        }
        Ok(Err(_)) => table.fault(&name, "the story broke off, as told above"),
        Ok(Ok(outcome)) => {
            outcome.faults().iter().for_each(|fault| table.fault(&name, fault));
            table.add(at, outcome);
        }
    }
    if let Ok(path) = env::var("PMR_TABLE") {
        fs::write(path, table.to_string()).expect("the table can be written");
    }
}

#[test]
#[ignore = "long: every program, as root and as an ordinary user"]
fn all_programs() {
    let rows = PROGRAMS.iter().filter(|program| asked_for(program));
    let due: Vec<Due> = rows
        .flat_map(|program| everybody().iter().map(move |who| (program, *who)))
        .enumerate()
        .map(|(at, (program, who))| (at, program, who))
        .collect();
    assert!(!due.is_empty(), "PMR_PROGRAMS names no program");
    let (due, table) = (Mutex::new(due.into_iter()), Mutex::new(Table::default()));
    let next = || due.lock().expect("nothing panics while it is locked").next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(due) = next() {
                    row(due, &table);
                }
            });
        }
    });
    let table = table.into_inner().expect("nothing panics while it is locked");
    println!("\n{table}");
    assert!(table.faults.is_empty(), "{} faults:\n{}", table.faults.len(), table.faults.join("\n"));
}
