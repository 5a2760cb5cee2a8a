//! The table of the documentation: one row for each program, with the outcomes of all users that ran it.

use std::fmt;
use std::time::Duration;

use crate::catalog::{PROGRAMS, Program};
use crate::outcome::{Outcome, joined};

const HEAD: &str = "\
| program | over 4 workers, as root | as a user | reloads | scaling | a killed worker | a killed daemon | of | asked again | a reload |
|---|---|---|---|---|---|---|---|---|---|";
const HEAD_ACTIVATED: &str = "\
| given its socket | over 4 workers, as root | as a user | reloads | scaling | a killed worker | a killed daemon | woken | of | asked again | a reload | to wake |
|---|---|---|---|---|---|---|---|---|---|---|---|";

/// The outcomes and faults so far.
#[derive(Default)]
pub struct Table {
    outcomes: Vec<(usize, Outcome)>,
    missing: Vec<&'static str>,
    pub faults: Vec<String>,
}

impl Table {
    /// Adds the outcome of the row at this position.
    pub fn add(&mut self, at: usize, outcome: Outcome) {
        println!("{outcome}");
        self.outcomes.push((at, outcome));
        self.outcomes.sort_by_key(|(at, _)| *at);
    }

    pub fn missing(&mut self, program: &Program) {
        self.missing.push(program.name);
    }

    pub fn fault(&mut self, whose: &str, what: &str) {
        println!("FAULT {whose}: {what}");
        self.faults.push(format!("{whose}: {what}"));
    }

    fn of(&self, program: &Program) -> Vec<&Outcome> {
        let outcomes = self.outcomes.iter().map(|(_, outcome)| outcome);
        outcomes.filter(|outcome| outcome.program == program).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (activated, head) in [(false, HEAD), (true, HEAD_ACTIVATED)] {
            writeln!(f, "{head}")?;
            for program in PROGRAMS.iter().filter(|program| program.activated == activated) {
                match &self.of(program)[..] {
                    [] if self.missing.contains(&program.name) => writeln!(f, "| {} | not here |", program.name)?,
                    [] => {}
                    some => writeln!(f, "{}", row(program, some))?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn row(program: &Program, outcomes: &[&Outcome]) -> String {
    let split = |user: &str| {
        let found = outcomes.iter().find(|outcome| outcome.user.to_string() == user);
        found.map_or("–".to_owned(), |outcome| joined(&outcome.split[1]))
    };
    let lost = |step: usize| outcomes.iter().map(|outcome| outcome.steps[step].1.lost()).sum::<usize>().to_string();
    let told_to_stop = outcomes.iter().flat_map(|outcome| &outcome.steps[..2]);
    let retried: u64 = told_to_stop.map(|(_, losses)| losses.retried).sum();
    let answered: u64 = outcomes.iter().map(|outcome| outcome.answered).sum();
    let mean = |times: Vec<Duration>| {
        format!("{:.1} s", times.iter().map(Duration::as_secs_f32).sum::<f32>() / times.len() as f32)
    };
    let mut cells = vec![program.name.to_owned(), split("root"), split("user")];
    cells.extend((0..outcomes[0].steps.len()).map(lost));
    cells.extend([thousands(answered), retried.to_string()]);
    cells.push(mean(outcomes.iter().map(|outcome| outcome.reload).collect()));
    if program.activated {
        cells.push(mean(outcomes.iter().filter_map(|outcome| outcome.wake_time).collect()));
    }
    format!("| {} |", cells.join(" | "))
}

/// Formats a number with thousands separators.
fn thousands(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", thousands(number / 1000), number % 1000) }
}
