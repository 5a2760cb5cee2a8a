//! The error for invalid input of the user.

use std::fmt;

/// Invalid input of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// What is wrong with what; several lines if there are several mistakes.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
}

impl InputError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> InputError {
        InputError { message: message.into(), hint: None }
    }

    /// The same error with a hint.
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

/// The system's message for an error, without its number.
pub fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
