//! Warnings about the daemon itself: sentences for standard error.

use jiff::{Timestamp, Zoned};

use crate::protocol::Unwritten;
use crate::protocol::info::EpochMs;

/// The warning that the daemon cannot write its state to disk.
#[must_use]
pub fn unwritten(unwritten: &Unwritten, autosave: bool, now: &Zoned) -> String {
    let Unwritten { path, error, since } = unwritten;
    let rest = if autosave {
        format!(", but a reboot now would start the list of {}", time(*since, now))
    } else {
        String::new()
    };
    format!("the state cannot be written to {}: {error}; running apps are not affected{rest}", path.display())
}

/// The warning that the processes that run differ from the saved list, and which of them a reboot starts.
#[must_use]
pub fn unsaved(saved: EpochMs, autosave: bool, now: &Zoned) -> String {
    let saved = time(saved, now);
    if autosave {
        format!(
            "the processes that run differ from the saved list ({saved}). A reboot starts the processes that run now; \
             `pmr set autosave off` makes it start the saved list"
        )
    } else {
        format!(
            "the processes that run differ from the saved list ({saved}), and autosave is off: a reboot starts the \
             saved list. `pmr save` saves the processes that run now"
        )
    }
}

/// `14:03`, with the date if it is not today.
fn time(at: EpochMs, now: &Zoned) -> String {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let Some(at) = at.map(|at| at.to_zoned(now.time_zone().clone())) else { return "an unknown time".to_owned() };
    let format = if at.date() == now.date() { "%H:%M" } else { "%-d %b %Y %H:%M" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-21T15:00[UTC]".parse().unwrap()
    }

    const THREE_PAST_TWO: EpochMs = 1_795_269_780_000;

    #[test]
    fn a_full_disk_is_reported_with_its_consequence() {
        let full =
            Unwritten { path: "/h/journal".into(), error: "No space left on device".into(), since: THREE_PAST_TWO };
        assert_eq!(
            unwritten(&full, true, &now()),
            "the state cannot be written to /h/journal: No space left on device; running apps are not affected, but a \
             reboot now would start the list of 14:03"
        );
        assert!(unwritten(&full, false, &now()).ends_with("running apps are not affected"));
    }

    #[test]
    fn the_warning_about_unsaved_processes_says_what_a_reboot_starts() {
        let on = unsaved(THREE_PAST_TWO, true, &now());
        assert!(
            on.starts_with(
                "the processes that run differ from the saved list (14:03). A reboot starts the processes that run"
            ),
            "{on}"
        );
        let off = unsaved(THREE_PAST_TWO - 86_400_000, false, &now());
        assert!(off.contains("(20 Nov 2026 14:03), and autosave is off: a reboot starts the saved list"), "{off}");
    }
}
