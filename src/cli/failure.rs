//! The failure that ends a command early: a sentence, a hint, an exit code. Made where it happens, printed once, in
//! `cli::run`.

use std::io;
use std::process::ExitCode;

use tarpc::client::RpcError;

use crate::protocol::Refusal;

/// The kind of a failure; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command failed.
    Failed,
    /// No daemon runs for this home.
    NoDaemon,
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What happened to what, in a sentence without a full stop.
    pub message: String,
    /// What the user can do next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of kind [`Kind::Failed`] with this sentence.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { kind: Kind::Failed, message: message.into(), hint: None }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// No daemon runs for the home at `root`.
    #[must_use]
    pub fn no_daemon(root: &std::path::Path) -> Failure {
        Failure {
            kind: Kind::NoDaemon,
            message: format!("no daemon is running for {}", root.display()),
            hint: Some("`pmr start app.js` starts one with an app, `pmr resurrect` one with what was saved".into()),
        }
    }

    /// Ctrl-C while the daemon was working on `verb`.
    #[must_use]
    pub fn interrupted(verb: &str) -> Failure {
        Failure {
            kind: Kind::Interrupted,
            message: format!("interrupted: the daemon continues the `{verb}`, only this command has ended"),
            hint: Some("`pmr explain` shows its progress, `pmr history` its result".into()),
        }
    }

    /// The connection or the daemon failed during the request `verb`.
    #[must_use]
    pub fn from_rpc(verb: &str, error: &RpcError) -> Failure {
        match error {
            RpcError::DeadlineExceeded => Failure::new(format!("the daemon did not answer `{verb}` in time"))
                .hint("`pmr ping` shows whether it is alive"),
            RpcError::Shutdown | RpcError::Send(_) | RpcError::Channel(_) => {
                Failure::new(format!("the daemon closed the connection during `{verb}`: {error}"))
                    .hint("the end of its log, pmr.log in its home, may say why")
            }
            RpcError::Server(refused) => {
                Failure::new(format!("the daemon could not answer `{verb}`: {}", refused.detail))
            }
        }
    }

    /// 130 after Ctrl-C, as shells expect; 1 for everything else, as with PM2.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        match self.kind {
            Kind::Interrupted => ExitCode::from(130),
            Kind::Failed | Kind::NoDaemon => ExitCode::FAILURE,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure { kind: Kind::Failed, message: refusal.to_string(), hint: refusal.hint() }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::new(message)
    }
}

/// Adds what was being done to an error of the system.
pub trait Doing<T> {
    /// Turns the error into the failure `what: error`.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{}: {error}", what())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_sentence_and_hint_of_its_refusal() {
        let failure = Failure::from(Refusal::NoMatch { selector: "ap".into(), similar: vec!["api".into()] });
        assert_eq!(failure.message, "no process or namespace matches `ap`");
        assert_eq!(failure.hint.as_deref(), Some("did you mean api?"));
        assert_eq!(failure.code(), ExitCode::FAILURE);
    }

    #[test]
    fn an_interrupted_command_ends_with_130() {
        assert_eq!(Failure::interrupted("reload").code(), ExitCode::from(130));
    }

    #[test]
    fn an_io_error_says_what_was_being_done() {
        let failure = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied)).doing(|| "opening /x".into());
        assert_eq!(failure.unwrap_err().message, "opening /x: permission denied");
    }
}
