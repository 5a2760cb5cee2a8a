//! Results of system calls in a child that may not allocate, and strings for them, prepared before the child exists.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::launch::Step;

pub(super) fn errno() -> i32 {
    // SAFETY: the variable belongs to the parent's thread, which sleeps while the child runs.
    unsafe { *libc::__errno_location() }
}

/// Puts an error that is not in `errno` there, for the calls that return it in another way. Returns the step.
pub(super) fn failed(error: &io::Error, step: Step) -> Step {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EIO) };
    step
}

pub(super) fn check(result: impl Into<i64>, step: Step) -> Result<(), Step> {
    if result.into() < 0 { Err(step) } else { Ok(()) }
}

pub(super) fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in a path, argument or variable"))
}
