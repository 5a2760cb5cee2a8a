//! The only writer to standard output and standard error: prefix, colour, width, `--silent`.
//!
//! A reader that goes away (`pmr list | head -1`) is no error: what cannot be written is dropped without a word.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::failure::Failure;
use super::view::Look;

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
    /// Colour where the stream is a terminal, unless `no_color`, `NO_COLOR` and their like say otherwise. `silent`
    /// leaves out everything but what was asked for by name, and errors.
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
    pub fn look(&self) -> Look {
        let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
        Look { color: self.color_out, width: width.filter(|columns| *columns > 0) }
    }

    /// True if what is printed is read on a terminal.
    #[must_use]
    pub fn is_on_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// True if standard error is a terminal, and not `--silent`.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !self.silent && io::stderr().is_terminal()
    }

    /// What was asked for, byte for byte, also with `--silent`.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// What was asked for, with a line end.
    pub fn line(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// The streams themselves, for what comes bit by bit.
    #[must_use]
    pub fn screen(&self) -> Screen<'static> {
        let out = io::stdout().lock();
        // Only to learn that the reader left: not worth failing for.
        let fd = out.as_fd().try_clone_to_owned().ok();
        Screen { out: Box::new(out), err: Box::new(io::stderr()), fd, colour: self.color_out }
    }

    /// A table or text that accompanies an action: left out with `--silent`.
    pub fn show(&self, text: &str) {
        if !self.silent {
            self.line(text);
        }
    }

    /// A message of pmr about what was done; left out with `--silent`.
    pub fn say(&self, text: &str) {
        if !self.silent {
            self.line(&format!("{} {text}", paint(self.color_out, GREEN, PREFIX)));
        }
    }

    /// Something to know, though the command goes on; left out with `--silent`.
    pub fn warn(&self, text: &str) {
        if self.silent {
            return;
        }
        self.err(&format!("{} {text}", paint(self.color_err, YELLOW, "warning:")));
    }

    /// How far things are; standard error, left out with `--silent`.
    pub fn progress(&self, text: &str) {
        if !self.silent {
            self.err(&format!("{} {text}", paint(self.color_err, DIM, PREFIX)));
        }
    }

    /// What went wrong with one of several.
    pub fn complain(&self, text: &str) {
        self.err(&format!("{} {text}", paint(self.color_err, RED, PREFIX)));
    }

    /// What ended the command.
    pub fn failure(&self, failure: &Failure) {
        self.err(&format!("{} {}", paint(self.color_err, RED, "error:"), failure.message));
        if let Some(hint) = &failure.hint {
            self.err(&format!("{} {hint}", paint(self.color_err, CYAN, "hint:")));
        }
    }

    /// Plain text on standard error.
    pub fn err(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Asks a question with yes and no. `None` if there is no terminal.
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

/// Where lines go as they come.
pub struct Screen<'a> {
    /// Takes what was asked for.
    pub out: Box<dyn Write + 'a>,
    /// Takes errors.
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
