//! `sendSignal`: sends a signal to main processes.

use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, LogLengths, Outcome};
use crate::protocol::Action;
use crate::spec::target::Selector;

/// Send a signal to the main process of each selected process
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr sendSignal SIGUSR2 api\n  pmr sendSignal HUP all\n  pmr sendSignal 10 0 3")]
pub struct Args {
    /// Name of the signal, with or without SIG, or its number
    #[arg(value_parser = number)]
    signal: i32,
    /// Ids, names, namespaces, `all`, /regular expressions/
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    let report = cx.daemon().await?.act(Action::Signal(args.signal), args.selectors).await?;
    Ok(outcome::print_report(&report, &[], &LogLengths::default(), cx))
}

fn number(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse::<i32>() {
        let known = (1..=64).contains(&number);
        return if known { Ok(number) } else { Err(format!("there is no signal {number}: they go from 1 to 64")) };
    }
    let name = text.to_ascii_uppercase();
    let full = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    Signal::from_str(&full)
        .map(|signal| signal as i32)
        .map_err(|_| format!("`{text}` is no signal: write SIGUSR2, USR2 or 12"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(["SIGUSR2", "usr2", "12"].map(number), [Ok(12), Ok(12), Ok(12)]);
        for wrong in ["0", "65", "-9", "SIGNOPE", ""] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
