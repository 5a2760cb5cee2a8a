//! `scale`: changes the number of an app's processes.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, Outcome};
use crate::protocol::{Action, Scale};
use crate::spec::target::Selector;

/// Change how many processes an app has; the newest are removed first
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr scale api 4      four processes\n  pmr scale api +2     two more\n  \
                        pmr scale api -1     one fewer\n  pmr scale api max    one for each processor")]
pub struct Args {
    /// The app: its name, an id, a namespace
    #[arg(value_name = "APP", value_parser = Selector::parse)]
    selector: Selector,
    /// The number: N, +N, -N or max
    #[arg(value_name = "COUNT", allow_hyphen_values = true, value_parser = count)]
    count: Scale,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(args: Args, cx: &Context) -> Result<Outcome, Failure> {
    outcome::act_and_show(&cx.daemon().await?, Action::Scale(args.count), vec![args.selector], cx).await
}

fn count(text: &str) -> Result<Scale, String> {
    let number = |digits: &str| {
        let found = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten();
        found.ok_or_else(|| format!("`{text}` is none of N, +N, -N, max"))
    };
    let change = |digits| match number(digits)? {
        0 => Err("a change by 0 changes nothing".to_owned()),
        some => Ok(some),
    };
    match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
        ("max", _, _) => Ok(Scale::To(processors())),
        (_, Some(more), _) => Ok(Scale::Up(change(more)?)),
        (_, _, Some(fewer)) => Ok(Scale::Down(change(fewer)?)),
        _ => Ok(Scale::To(number(text)?)),
    }
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_absolute_or_changes() {
        assert_eq!(count("4"), Ok(Scale::To(4)));
        assert_eq!(count("0"), Ok(Scale::To(0)));
        assert_eq!(count("+2"), Ok(Scale::Up(2)));
        assert_eq!(count("-1"), Ok(Scale::Down(1)));
        assert_eq!(count("max"), Ok(Scale::To(processors())));
        for wrong in ["", "+", "-", "+0", "--1", "two", "1.5", "-h"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
