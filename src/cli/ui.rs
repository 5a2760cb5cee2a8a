//! The only writer to standard output and standard error: prefix, colour, width, `--silent`.
//!
//! A reader that closes its end (`pmr list | head -1`) is no error: the rest of the output is dropped.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::failure::Failure;
use super::view::Terminal;

/// The prefix of pmr's own messages.
const PREFIX: &str = "[pmr]";

/// The output of a command.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    silent: bool,
    color_out: bool,
    color_err: bool,
}

impl Ui {
    /// Colour where the stream is a terminal, unless `no_color` or a variable such as `NO_COLOR` turns it off. `silent`
    /// leaves out everything but requested data and errors.
    #[must_use]
    pub fn new(silent: bool, no_color: bool) -> Ui {
        let colored = |choice: ColorChoice| !no_color && choice != ColorChoice::Never;
        Ui {
            silent,
            color_out: colored(AutoStream::choice(&io::stdout())),
            color_err: colored(AutoStream::choice(&io::stderr())),
        }
    }

    /// Colour and width of standard output, for the views. A pipe has no width.
    #[must_use]
    pub fn terminal(&self) -> Terminal {
        let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
        Terminal { color: self.color_out, width: width.filter(|columns| *columns > 0) }
    }

    /// True if standard output is a terminal.
    #[must_use]
    pub fn is_on_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// True if progress is shown: standard error is a terminal, without `--silent`.
    #[must_use]
    pub fn shows_progress(&self) -> bool {
        !self.silent && io::stderr().is_terminal()
    }

    /// Prints requested data byte for byte, also with `--silent`.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints requested data and a newline, also with `--silent`.
    pub fn line(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// The streams themselves, for output that comes in parts.
    #[must_use]
    pub fn screen(&self) -> Screen<'static> {
        let out = io::stdout().lock();
        // Needed only to notice that the reader has closed its end: not worth a failure.
        let fd = out.as_fd().try_clone_to_owned().ok();
        Screen { out: Box::new(out), err: Box::new(io::stderr()), fd, colour: self.color_out }
    }

    /// Prints a table or text that accompanies an action; left out with `--silent`.
    pub fn show(&self, text: &str) {
        if !self.silent {
            self.line(text);
        }
    }

    /// Prints a message about what was done; left out with `--silent`.
    pub fn info(&self, text: &str) {
        if !self.silent {
            self.line(&format!("{} {text}", paint(self.color_out, GREEN, PREFIX)));
        }
    }

    /// Prints a warning; left out with `--silent`.
    pub fn warn(&self, text: &str) {
        if self.silent {
            return;
        }
        self.stderr(&format!("{} {text}", paint(self.color_err, YELLOW, "warning:")));
    }

    /// Prints progress on standard error; left out with `--silent`.
    pub fn progress(&self, text: &str) {
        if !self.silent {
            self.stderr(&format!("{} {text}", paint(self.color_err, DIM, PREFIX)));
        }
    }

    /// Prints the failure of one of several processes; the command goes on.
    pub fn error(&self, text: &str) {
        self.stderr(&format!("{} {text}", paint(self.color_err, RED, PREFIX)));
    }

    /// Prints the failure that ends the command, with its hint.
    pub fn failure(&self, failure: &Failure) {
        self.stderr(&format!("{} {}", paint(self.color_err, RED, "error:"), failure.message));
        if let Some(hint) = &failure.hint {
            self.stderr(&format!("{} {hint}", paint(self.color_err, CYAN, "hint:")));
        }
    }

    /// Prints plain text on standard error.
    pub fn stderr(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Asks a question that is answered with yes or no. `None` if there is no terminal.
    #[must_use]
    pub fn ask(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let _ = write!(io::stderr().lock(), "{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

/// The streams for output that comes in parts.
pub struct Screen<'a> {
    /// Standard output, for requested data.
    pub out: Box<dyn Write + 'a>,
    /// Standard error.
    pub err: Box<dyn Write + 'a>,
    /// The descriptor behind `out`, where there is one.
    pub fd: Option<OwnedFd>,
    /// Whether `out` shows colours.
    pub colour: bool,
}

const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();
const DIM: Style = Style::new().dimmed();

fn paint(color: bool, style: Style, text: &str) -> String {
    if color { format!("{style}{text}{style:#}") } else { text.to_owned() }
}
