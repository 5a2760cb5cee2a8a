//! All programs, as root and as an ordinary user, with a row of the table for each.

use std::panic;
use std::sync::Mutex;
use std::{env, fs, thread};

use nix::unistd::Uid;

use crate::catalog::{PROGRAMS, Program};
use crate::scenario::{NOBODY, User, run};
use crate::table::Table;
use crate::toolchain::{self, Missing};

const RELOADS: usize = 5;
/// Number of scenarios that run at the same time.
const AT_ONCE: usize = 2;

/// A row that is still to run: its position, program and user.
type Due = (usize, &'static Program, User);

/// The users that programs run as: also an ordinary user if root runs the tests.
pub fn all_users() -> &'static [User] {
    if Uid::effective().is_root() { &[User::Tester, User::Nobody] } else { &[User::Tester] }
}

/// Builds the program, and checks that this user can run it.
pub fn ready(program: &'static Program, user: User) -> Result<(), Missing> {
    toolchain::prepare(program)?;
    match user {
        User::Tester => Ok(()),
        User::Nobody => toolchain::reachable(NOBODY, program),
    }
}

fn asked_for(program: &Program) -> bool {
    let Ok(words) = env::var("PMR_PROGRAMS") else { return true };
    words.split(',').any(|word| program.name.to_lowercase().contains(&word.to_lowercase()))
}

fn row((at, program, user): Due, table: &Mutex<Table>) {
    let outcome = ready(program, user).map(|()| panic::catch_unwind(|| run(program, user, RELOADS)));
    let mut table = table.lock().expect("nothing panics while it is locked");
    let name = format!("{} as {user}", program.name);
    match outcome {
        Err(Missing(what)) => {
            table.missing(program);
            table.fault(&name, &format!("{what} is not here: run `.ci/programs all`"));
        }
        Ok(Err(_)) => table.fault(&name, "the scenario panicked: see above"),
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
fn all_programs_pass_the_scenario() {
    let rows = PROGRAMS.iter().filter(|program| asked_for(program));
    let due: Vec<Due> = rows
        .flat_map(|program| all_users().iter().map(move |user| (program, *user)))
        .enumerate()
        .map(|(at, (program, user))| (at, program, user))
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
