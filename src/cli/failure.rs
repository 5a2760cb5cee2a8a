//! What ends a command early: a sentence, a hint, an exit code. Made once, shown once, at the top.

use std::io;
use std::process::ExitCode;

use tarpc::client::RpcError;

use crate::protocol::Refusal;

/// What sort of failure it was; it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command could not do what it was asked.
    Failed,
    /// No daemon runs for this home.
    NoDaemon,
    /// The user pressed Ctrl-C.
    Interrupted,
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub kind: Kind,
    /// What happened, to what.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with this sentence.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { kind: Kind::Failed, message: message.into(), hint: None }
    }

    /// The same with something to do about it.
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
            message: format!("interrupted: the daemon goes on with `{verb}`, only this command has ended"),
            hint: Some("`pmr explain` of the app tells how far it is, `pmr history` what it came to".into()),
        }
    }

    /// The connection or the daemon failed while it was asked to do `verb`.
    #[must_use]
    pub fn from_rpc(verb: &str, error: &RpcError) -> Failure {
        match error {
            RpcError::DeadlineExceeded => Failure::new(format!("the daemon did not answer `{verb}` in time"))
                .hint("`pmr ping` tells whether it is alive"),
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

/// Says what was being done when the system refused.
pub trait Doing<T> {
    /// Turns the error into `doing: the system's words`.
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
    fn a_refusal_keeps_its_sentence_and_hint() {
        let failure = Failure::from(Refusal::NoMatch { selector: "ap".into(), similar: vec!["api".into()] });
        assert_eq!(failure.message, "no process or namespace matches `ap`");
        assert_eq!(failure.hint.as_deref(), Some("did you mean api?"));
        assert_eq!(failure.code(), ExitCode::FAILURE);
    }

    #[test]
    fn an_interrupt_has_the_exit_code_of_one() {
        assert_eq!(Failure::interrupted("reload").code(), ExitCode::from(130));
    }

    #[test]
    fn an_io_error_says_what_was_being_done() {
        let failure = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied)).doing(|| "opening /x".into());
        assert_eq!(failure.unwrap_err().message, "opening /x: permission denied");
    }
}
