//! The programs that every run of the tests has: one of each kind of runtime.

use crate::catalog::named;
use crate::matrix::{everybody, ready};
use crate::story::{Who, tell};

const RELOADS: usize = 2;

/// Tells the story, in which nothing may be that must not be. Where a program is missing, says so; in CI none may be.
fn told(name: &str, who: Who) {
    let program = named(name);
    if let Err(missing) = ready(program, who) {
        assert!(std::env::var_os("CI").is_none(), "{missing:?}: `.ci/programs core` installs it");
        return eprintln!("{name}: not here: {missing:?}");
    }
    let outcome = tell(program, who, RELOADS);
    println!("{outcome}");
    let faults = outcome.faults();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn python() {
    told("Python asyncio", Who::Tester);
}

#[test]
fn an_ordinary_users_python() {
    everybody().iter().filter(|who| **who == Who::Nobody).for_each(|who| told("python -m http.server", *who));
}

#[test]
fn go() {
    told("Go net/http, static", Who::Tester);
}

#[test]
fn go_on_the_socket_it_is_given() {
    told("Go net/http, static, activated", Who::Tester);
}

#[test]
fn ruby() {
    told("Ruby WEBrick", Who::Tester);
}

#[test]
fn rust() {
    told("Rust std", Who::Tester);
}

#[test]
fn node_by_npm() {
    told("Node by npm start", Who::Tester);
}
