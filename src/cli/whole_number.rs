//! Whole numbers that flags take. An error says what is expected, in the words of the flag's user.

/// Reads a number of lines or events; 0 is one, too.
///
/// # Errors
/// What is expected.
pub fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "expected a whole number such as 20")
}

/// Reads a number of processes, at least 1.
///
/// # Errors
/// What is expected.
pub fn at_least_one(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("expected a whole number of at least 1")
}
