//! The findings of `doctor`: a line for each, with advice below it.

use super::{BAD, GOOD, Terminal, WARNING};
use crate::doctor::{Finding, Health};

/// Lines such as `✓ home  /root/.pmr`, in columns.
#[must_use]
pub fn text(findings: &[Finding], terminal: Terminal) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    findings.iter().map(|finding| lines(finding, width, terminal)).collect::<Vec<_>>().join("\n")
}

fn lines(finding: &Finding, width: usize, terminal: Terminal) -> String {
    let sign = match finding.health {
        Health::Good => terminal.paint(GOOD, "✓"),
        Health::Limited => terminal.paint(WARNING, "!"),
        Health::Missing => terminal.paint(BAD, "✗"),
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
    fn advice_stands_below_its_finding() {
        let finding = |subject, health, advice: Option<&str>| Finding {
            subject,
            health,
            found: "so it is".into(),
            advice: advice.map(str::to_owned),
        };
        let findings =
            [finding("home", Health::Good, None), finding("open files", Health::Limited, Some("raise the limit"))];
        assert_eq!(
            text(&findings, Terminal { color: false, width: None }),
            "✓ home        so it is\n! open files  so it is\n              → raise the limit"
        );
    }
}
