//! The report of an operation: a line for each process.

use super::{BAD, GOOD, Terminal};
use crate::protocol::{ReportLine, Step, Verdict};

/// `[api](3) ✓`, or the failure.
#[must_use]
pub fn line(line: &ReportLine, terminal: Terminal) -> String {
    let process = format!("[{}]({})", line.name, line.id);
    match &line.verdict {
        Verdict::Done => format!("{process} {}", terminal.paint(GOOD, "✓")),
        Verdict::Failed { reason, old_serves } | Verdict::NotBegun { reason, old_serves } => {
            let rest = if *old_serves { "; the old process goes on serving" } else { "" };
            format!("{process} {} {}: {reason}{rest}", terminal.paint(BAD, "✗"), line.verb)
        }
        Verdict::Superseded { by } => {
            format!("{process} {} {}: a later `{by}` took over", terminal.paint(BAD, "✗"), line.verb)
        }
        Verdict::RolledBack => {
            format!("{process} {} {}: rolled back, the previous release serves", terminal.paint(BAD, "✗"), line.verb)
        }
        Verdict::Planned { step } => format!("{process} {}", plan(*step)),
    }
}

fn plan(step: Step) -> String {
    match step {
        Step::Rest => "is idle, and would be started by the next connection".to_owned(),
        Step::Canary => "would be replaced first, as a canary".to_owned(),
        Step::Replace { wave } => format!("would be replaced in wave {wave}"),
        Step::Restart => "would be stopped and started again".to_owned(),
        Step::Start => "would be started".to_owned(),
        Step::Remove => "would be removed".to_owned(),
    }
}
