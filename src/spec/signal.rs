//! Signal names in `sendSignal` and in reports. Numbers are those of Linux on x86-64 and aarch64.

const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// SIGINT, the signal that asks an app to stop, as in PM2.
pub const INT: i32 = 2;
/// SIGKILL.
pub const KILL: i32 = 9;

/// `SIGTERM` for 15; `signal 40` for a number without a name.
#[must_use]
pub fn name(number: i32) -> String {
    usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| format!("signal {number}"), |name| (*name).to_owned())
}

/// Parses `SIGTERM`, `term` or `15`.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    NAMES.iter().position(|name| *name == full).and_then(|index| i32::try_from(index + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_each_others_inverse() {
        for number in 1..=31 {
            assert_eq!(parse(&name(number)), Some(number));
        }
        assert_eq!((name(9).as_str(), name(15).as_str()), ("SIGKILL", "SIGTERM"));
    }

    #[test]
    fn names_are_case_insensitive_and_unknown_ones_are_refused() {
        assert_eq!(parse("term"), Some(15));
        assert_eq!(parse("SigUsr2"), Some(12));
        assert_eq!(parse("34"), Some(34));
        for bad in ["", "SIG", "TERMINATE", "0", "-9", "65"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
