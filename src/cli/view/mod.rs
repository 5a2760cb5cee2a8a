//! Turns values into text for people. Nothing here prints, reads the clock or queries the terminal.

pub mod daemon_warnings;
pub mod describe;
pub mod doctor;
pub mod env;
pub mod explain;
pub mod history;
pub mod jlist;
pub mod list;
pub mod manual;
pub mod page;
pub mod quantity;
pub mod report;
pub mod secret;

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, Color, ContentLineStyle, LineStyle, Table, TableStyle};

use crate::protocol::{Exit, Status};
use crate::spec::value;

/// The properties of the terminal to which text is printed.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// True if escape codes for colours may be used.
    pub color: bool,
    /// Columns of the terminal; `None` if the output is no terminal.
    pub width: Option<usize>,
}

impl Terminal {
    /// An empty table with the borders that all tables of pmr have.
    #[must_use]
    pub fn table(self) -> Table {
        let mut table = Table::new();
        table.load_style(BOX).force_no_tty();
        if self.color {
            table.enforce_styling();
        }
        table
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

const BOX: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('┌', '─', '┬', '┐'))
    .header_lines(ContentLineStyle::new('│', '│', '│'))
    .header_separator(LineStyle::new('├', '─', '┼', '┤'))
    .content_lines(ContentLineStyle::new('│', '│', '│'))
    .bottom_border(LineStyle::new('└', '─', '┴', '┘'));

const GOOD: Style = AnsiColor::Green.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const TITLE: Style = AnsiColor::Cyan.on_default().bold();

fn status_color(status: Status) -> Color {
    match status {
        Status::Online | Status::Completed => Color::Green,
        Status::Launching | Status::Idle | Status::Waiting => Color::Blue,
        Status::Unhealthy => Color::Red,
        Status::Stopping | Status::WaitingRestart => Color::Yellow,
        Status::Stopped | Status::Errored => Color::Red,
    }
}

/// A cell of a header row or column.
#[must_use]
pub fn header(text: &str) -> Cell {
    Cell::new(text).fg(Color::Cyan).add_attribute(comfy_table::Attribute::Bold)
}

/// How a run ended: `code 1`, `signal 9 (SIGKILL)`.
#[must_use]
pub fn exit_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => format!("signal {number} ({})", signal.as_str()),
            Err(_) => format!("signal {number}"),
        },
        Exit::Unknown => "unknown".to_owned(),
        Exit::OutOfMemory { limit } => {
            format!("killed by the kernel for using more than {} of memory", value::megabytes(limit))
        }
    }
}

/// Cuts text to `limit` characters, the last of them `…` if some were cut. Control characters are replaced, because
/// names and versions come from outside and could control the terminal.
fn cut(text: &str, limit: usize) -> String {
    let plain = text.chars().map(|character| if character.is_control() { '?' } else { character });
    if text.chars().count() <= limit {
        return plain.collect();
    }
    plain.take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;
