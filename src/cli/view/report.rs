//! What became of each process of an operation, a line for each.

use super::{BAD, GOOD, Look};
use crate::protocol::{ReportLine, Verdict};

/// `[api](3) ✓`, or what went wrong instead.
#[must_use]
pub fn line(line: &ReportLine, look: Look) -> String {
    let who = format!("[{}]({})", line.name, line.id);
    match &line.verdict {
        Verdict::Done => format!("{who} {}", look.paint(GOOD, "✓")),
        Verdict::Failed { reason, old_serves } => {
            let rest = if *old_serves { "; the old process goes on serving" } else { "" };
            format!("{who} {} {}: {reason}{rest}", look.paint(BAD, "✗"), line.verb)
        }
        Verdict::Superseded { by } => {
            format!("{who} {} {}: a later `{by}` took over", look.paint(BAD, "✗"), line.verb)
        }
    }
}
