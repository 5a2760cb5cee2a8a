//! The error of everything that reads what the user gave.

use std::fmt;

/// What the user gave cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// What is wrong with what; several lines if there are several mistakes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl InputError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> InputError {
        InputError { message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> InputError {
        InputError { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InputError {}

/// The system's words for an error, without its number.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
