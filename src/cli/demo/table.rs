//! The result of the demo as text. PURE.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color};

use super::load::Counts;
use crate::cli::view::{Terminal, header};

/// Width of the longest bar.
const BAR: u64 = 24;
/// A worker with less than this percentage of an even share does not do its part.
const FAIR: u64 = 50;

/// Advice printed after the demo.
pub(super) const WHAT_NEXT: &str = "
Now with an app of yours (any Node app that listens, unchanged):
  pmr start app.js -i max    one worker for each processor, all on the app's port
  pmr list                   see them; also: pmr logs, pmr describe app
  pmr reload app             new code, no gap";

/// The result of one step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Title in the table.
    pub(super) what: String,
    /// Time from the command to its end.
    pub(super) took: Duration,
    /// Time in which the requests were counted.
    pub(super) length: Duration,
    /// All requests from the command to the end of the step.
    pub(super) counts: Counts,
    /// How many of the lost ones were inside the worker that was killed.
    pub(super) inside: u64,
    /// Requests after the command was done, by the workers of that time.
    pub(super) requests_by_pid: BTreeMap<String, u64>,
    /// Of these, requests on a connection of their own: they show how connections are distributed.
    pub(super) connections_by_pid: BTreeMap<String, u64>,
}

impl Step {
    /// Number of lost requests that are not excused.
    fn failed(&self) -> u64 {
        self.counts.failed() - self.inside
    }

    /// Smallest and largest share of a worker, in percent.
    fn shares(&self) -> (u64, u64) {
        let all: u64 = self.connections_by_pid.values().sum();
        let percent = |count: Option<&u64>| (count.copied().unwrap_or(0) * 100 + all / 2) / all.max(1);
        (percent(self.connections_by_pid.values().min()), percent(self.connections_by_pid.values().max()))
    }

    fn is_fair(&self) -> bool {
        let workers = self.connections_by_pid.len() as u64;
        workers > 0 && self.shares().0 * workers >= FAIR
    }
}

/// True if no request was lost except inside the killed worker, and each worker had its share after every step.
#[must_use]
pub(super) fn passed(steps: &[Step]) -> bool {
    steps.iter().all(|step| step.failed() == 0 && step.is_fair())
}

/// A line for each worker, with a bar for its requests.
#[must_use]
pub(super) fn share_bars(by_pid: &BTreeMap<String, u64>) -> Vec<String> {
    let most = by_pid.values().copied().max().unwrap_or(0).max(1);
    let bar = |count: u64| "█".repeat(usize::try_from(count * BAR / most).unwrap_or(0));
    by_pid.iter().map(|(pid, count)| format!("pid {pid:<8}{:<24}  {} requests", bar(*count), grouped(*count))).collect()
}

/// All steps as a table.
#[must_use]
pub(super) fn table(steps: &[Step], terminal: Terminal) -> String {
    let mut table = terminal.table();
    table.set_header(["step", "took", "requests", "per second", "failed", "share of a worker"].map(header));
    for step in steps {
        table.add_row(row(step));
    }
    for number in 1..=5 {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn row(step: &Step) -> Vec<Cell> {
    let rate = step.counts.requests() as f64 / step.length.as_secs_f64().max(0.001);
    let failed = if step.failed() == 0 { Color::Green } else { Color::Red };
    let excused = if step.inside == 0 { String::new() } else { format!(" (+{} *)", step.inside) };
    let share = match step.shares() {
        (least, most) if least == most => format!("{least} %"),
        (least, most) => format!("{least}–{most} %"),
    };
    vec![
        Cell::new(&step.what),
        Cell::new(duration(step.took)),
        Cell::new(grouped(step.counts.requests())),
        Cell::new(grouped(rate as u64)),
        Cell::new(format!("{}{excused}", grouped(step.failed()))).fg(failed),
        Cell::new(share),
    ]
}

/// The conclusion from the table.
#[must_use]
pub(super) fn verdict(steps: &[Step]) -> String {
    let sum = |of: fn(&Step) -> u64| steps.iter().map(of).sum::<u64>();
    let requests = grouped(sum(|step| step.counts.requests()));
    let mut lines = Vec::new();
    let excused = match sum(|step| step.inside) {
        0 => None,
        1 => Some("* 1 request was inside the worker when it was killed: it cannot be answered.".to_owned()),
        more => Some(format!("* {more} requests were inside the worker when it was killed: they cannot be answered.")),
    };
    let subject = if excused.is_some() { "No other request" } else { "No request" };
    lines.extend(excused);
    match sum(Step::failed) {
        0 => lines.push(format!("{subject} of {requests} failed: none refused, reset, cut short or left hanging.")),
        failed => lines.push(format!("{} of {requests} requests FAILED: {}.", grouped(failed), kinds(steps))),
    }
    let unfair = steps.iter().filter(|step| !step.is_fair());
    lines.extend(unfair.map(|step| format!("After `{}` a worker got less than half of its share.", step.what)));
    lines.join("\n")
}

/// How requests were lost, the excused ones included.
fn kinds(steps: &[Step]) -> String {
    let mut all = Counts::default();
    steps.iter().for_each(|step| all += &step.counts);
    let kinds = [
        (all.refused, "refused"),
        (all.reset, "reset"),
        (all.truncated, "cut short"),
        (all.hung, "without an answer in 5 s"),
        (all.bad, "with another status than 200"),
    ];
    let some = kinds.iter().filter(|(count, _)| *count > 0);
    some.map(|(count, kind)| format!("{} {kind}", grouped(*count))).collect::<Vec<_>>().join(", ")
}

fn duration(time: Duration) -> String {
    match time.as_millis() {
        millis @ ..1000 => format!("{} ms", millis.max(1)),
        millis => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
    }
}

/// `12,345`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal { color: false, width: None };

    fn step(what: &str, counts: Counts, inside: u64, connections: &[(&str, u64)]) -> Step {
        let by_pid: BTreeMap<String, u64> = connections.iter().map(|(pid, n)| ((*pid).to_owned(), *n)).collect();
        let (requests_by_pid, connections_by_pid) = (by_pid.clone(), by_pid);
        let (took, length) = (Duration::from_millis(42), Duration::from_secs(2));
        Step { what: what.to_owned(), took, length, counts, inside, requests_by_pid, connections_by_pid }
    }

    fn good() -> Step {
        step("start 2", Counts { answered: 12_346, ..Counts::default() }, 0, &[("7", 500), ("8", 503)])
    }

    #[test]
    fn a_row_shows_the_result_of_a_step() {
        let killed = step("kill", Counts { answered: 98, reset: 2, ..Counts::default() }, 2, &[("7", 24), ("8", 26)]);
        let table = table(&[good(), killed], PLAIN);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split('│').map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert!(rows.contains(&vec!["start 2", "42 ms", "12,346", "6,173", "0", "50 %"]), "{table}");
        assert!(rows.contains(&vec!["kill", "42 ms", "100", "50", "0 (+2 *)", "48–52 %"]), "{table}");
    }

    #[test]
    fn the_demo_passes_if_only_the_killed_worker_loses_requests() {
        let killed = step("kill", Counts { answered: 98, reset: 2, ..Counts::default() }, 2, &[("7", 24), ("8", 26)]);
        let steps = [good(), killed];
        assert!(passed(&steps));
        let words = verdict(&steps);
        assert!(words.starts_with("* 2 requests were inside"), "{words}");
        assert!(words.contains("No other request of 12,446 failed"), "{words}");
        assert!(verdict(&[good()]).starts_with("No request of 12,346 failed"));
    }

    #[test]
    fn a_lost_request_fails_the_demo_and_is_named() {
        let bad = step("reload", Counts { answered: 9, hung: 1, reset: 2, ..Counts::default() }, 0, &[("7", 5)]);
        assert!(!passed(&[good(), bad.clone()]));
        let words = verdict(&[good(), bad]);
        assert_eq!(words, "3 of 12,358 requests FAILED: 2 reset, 1 without an answer in 5 s.");
    }

    #[test]
    fn a_worker_without_requests_fails_the_demo() {
        let idle = step("scale", Counts { answered: 10, ..Counts::default() }, 0, &[("7", 10), ("8", 0)]);
        assert!(!passed(std::slice::from_ref(&idle)));
        assert!(verdict(&[idle]).contains("After `scale` a worker got less than half of its share."));
        assert!(!passed(&[step("none", Counts::default(), 0, &[])]));
    }

    #[test]
    fn the_busiest_worker_has_the_longest_bar() {
        let bars = share_bars(&BTreeMap::from([("7".to_owned(), 1000), ("8".to_owned(), 500)]));
        assert_eq!(bars[0].matches('█').count(), 24);
        assert_eq!(bars[1].matches('█').count(), 12);
        assert!(bars[0].ends_with("1,000 requests"), "{}", bars[0]);
    }
}
