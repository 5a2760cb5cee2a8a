//! What became of each process of an operation, a line for each.

use super::{BAD, GOOD, Look};
use crate::protocol::{ReportLine, Step, Verdict};

/// `[api](3) ✓`, or what went wrong instead.
#[must_use]
pub fn line(line: &ReportLine, look: Look) -> String {
    let who = format!("[{}]({})", line.name, line.id);
    match &line.verdict {
        Verdict::Done => format!("{who} {}", look.paint(GOOD, "✓")),
        Verdict::Failed { reason, old_serves } | Verdict::NotBegun { reason, old_serves } => {
            let rest = if *old_serves { "; the old process goes on serving" } else { "" };
            format!("{who} {} {}: {reason}{rest}", look.paint(BAD, "✗"), line.verb)
        }
        Verdict::Superseded { by } => {
            format!("{who} {} {}: a later `{by}` took over", look.paint(BAD, "✗"), line.verb)
        }
        Verdict::RolledBack => {
            format!("{who} {} {}: taken back, the release before serves", look.paint(BAD, "✗"), line.verb)
        }
        Verdict::Planned { step } => format!("{who} {}", plan(*step)),
    }
}

fn plan(step: Step) -> String {
    match step {
        Step::Rest => "rests, and would start anew when it is needed".to_owned(),
        Step::Canary => "would be replaced first and watched".to_owned(),
        Step::Replace { wave } => format!("would be replaced in wave {wave}"),
        Step::Restart => "would be stopped and started again".to_owned(),
        Step::Start => "would be started".to_owned(),
        Step::Remove => "would be removed".to_owned(),
    }
}
