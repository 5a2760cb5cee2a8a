//! Who we are to the kernel: user, adopter of orphans, limits.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User};

/// Effective user id.
#[must_use]
pub fn uid() -> u32 {
    Uid::effective().as_raw()
}

/// Name of the effective user, or its number where it has none.
#[must_use]
pub fn user_name() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// A write beyond the file size limit (`ulimit -f`) is an error from now on, not our death. Children start with the
/// default again.
pub fn survive_file_size_limit() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: ignoring a signal runs no code of ours in a handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}

/// From now on, descendants whose parent dies become our children, so none escapes unseen.
pub fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

/// Raises the number of files we may open to what the system permits, and returns the former limit. A daemon holds
/// several for each process it watches.
pub fn raise_file_limit() -> io::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}
