//! The core of programs, in every run of the tests: one for each kind of runtime.

use crate::catalog::named;
use crate::matrix::{all_users, ready};
use crate::scenario::{User, run};

const RELOADS: usize = 2;

/// Runs the scenario, which must end without faults. A missing program is reported and skipped; in CI it fails the
/// test.
fn run_scenario(name: &str, user: User) {
    let program = named(name);
    if let Err(missing) = ready(program, user) {
        assert!(std::env::var_os("CI").is_none(), "{missing:?}: `.ci/programs core` installs it");
        return eprintln!("{name}: not here: {missing:?}");
    }
    let outcome = run(program, user, RELOADS);
    println!("{outcome}");
    let faults = outcome.faults();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn python_passes_the_scenario() {
    run_scenario("Python asyncio", User::Tester);
}

#[test]
fn python_of_an_ordinary_user_passes_the_scenario() {
    all_users()
        .iter()
        .filter(|user| **user == User::Nobody)
        .for_each(|user| run_scenario("python -m http.server", *user));
}

#[test]
fn go_passes_the_scenario() {
    run_scenario("Go net/http, static", User::Tester);
}

#[test]
fn activated_go_passes_the_scenario() {
    run_scenario("Go net/http, static, activated", User::Tester);
}

#[test]
fn ruby_passes_the_scenario() {
    run_scenario("Ruby WEBrick", User::Tester);
}

#[test]
fn rust_passes_the_scenario() {
    run_scenario("Rust std", User::Tester);
}

#[test]
fn node_started_by_npm_passes_the_scenario() {
    run_scenario("Node by npm start", User::Tester);
}
