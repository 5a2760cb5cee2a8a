//! What this machine allows, one line for each thing and what to do beneath it.

use super::{BAD, GOOD, Look, WARNING};
use crate::doctor::{Finding, Health};

/// `✓ home: /root/.pmr`, in columns.
#[must_use]
pub fn text(findings: &[Finding], look: Look) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    findings.iter().map(|finding| lines(finding, width, look)).collect::<Vec<_>>().join("\n")
}

fn lines(finding: &Finding, width: usize, look: Look) -> String {
    let sign = match finding.health {
        Health::Good => look.paint(GOOD, "✓"),
        Health::Limited => look.paint(WARNING, "!"),
        Health::Missing => look.paint(BAD, "✗"),
    };
    let line = format!("{sign} {:width$}  {}", finding.subject, finding.found);
    match &finding.advice {
        Some(advice) => format!("{line}\n  {:width$}  → {advice}", ""),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_beneath_what_was_found() {
        let finding = |subject, health, advice: Option<&str>| Finding {
            subject,
            health,
            found: "so it is".into(),
            advice: advice.map(str::to_owned),
        };
        let findings =
            [finding("home", Health::Good, None), finding("open files", Health::Limited, Some("raise the limit"))];
        assert_eq!(
            text(&findings, Look { color: false, width: None }),
            "✓ home        so it is\n! open files  so it is\n              → raise the limit"
        );
    }
}
