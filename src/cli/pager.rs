//! Shows long text in the user's pager.
//!
//! The pager replaces this process (`exec`) and has the text as a file on its standard input. So the pager alone gets
//! the keyboard and its signals, and its exit code is the command's.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::ui::Ui;

/// Pager without `PAGER`. With [`LESS`], it ends at once if the text fits on the screen, shows colours, and leaves the
/// text on the screen.
const DEFAULT: &str = "less";
/// Options of `less` if the user has not set `LESS`.
const LESS: &str = "FRX";

/// Shows a text: in a pager on a terminal, else on standard output; also there if the pager cannot be started.
pub fn show(text: &str, ui: Ui) {
    let text = format!("{}\n", text.trim_end_matches('\n'));
    if ui.is_on_terminal()
        && let Some(mut pager) = pager(std::env::var("PAGER").ok().as_deref())
        && let Some(file) = file(&text)
    {
        let less = std::env::var_os("LESS").unwrap_or_else(|| LESS.into());
        // `exec` returns only if it failed.
        let _error = pager.env("LESS", less).stdin(file).exec();
    }
    ui.raw(text.as_bytes());
}

/// The pager that `PAGER` names, which may be a command line. `None` if it is empty or `cat`.
fn pager(variable: Option<&str>) -> Option<Command> {
    match variable.map(str::trim) {
        None => Some(Command::new(DEFAULT)),
        Some("" | "cat") => None,
        Some(line) if line.contains(char::is_whitespace) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", line]);
            Some(shell)
        }
        Some(program) => Some(Command::new(program)),
    }
}

/// An unlinked file with the text, positioned at its start.
fn file(text: &str) -> Option<File> {
    let mut file = tempfile::tempfile().ok()?;
    file.write_all(text.as_bytes()).ok()?;
    file.rewind().ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variable: Option<&str>) -> Option<String> {
        let pager = pager(variable)?;
        let words = std::iter::once(pager.get_program()).chain(pager.get_args());
        Some(words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn the_variable_chooses_the_pager() {
        assert_eq!(chosen(None).as_deref(), Some("less"));
        assert_eq!(chosen(Some("most")).as_deref(), Some("most"));
        assert_eq!(chosen(Some("less -S ")).as_deref(), Some("/bin/sh|-c|less -S"));
        assert_eq!(chosen(Some("")), None);
        assert_eq!(chosen(Some("cat")), None);
    }
}
