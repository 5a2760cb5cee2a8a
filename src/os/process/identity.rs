//! Who we are to the kernel: user, adopter of orphans, limits.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{self, Gid, Group, Uid, User};

use super::credentials::Credentials;

/// Our process id.
#[must_use]
pub fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Process id of our parent.
#[must_use]
pub fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

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

/// How many files we may open: the soft and the hard limit.
pub fn file_limit() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Raises the number of files we may open to what the system permits, and returns the former limit. A daemon holds
/// several for each process it watches.
pub fn raise_file_limit() -> io::Result<(u64, u64)> {
    let (soft, hard) = file_limit()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}

/// Leaves this many files below the limit for whoever goes on with ours: he must be able to begin when we have used up
/// the rest. A tight limit leaves a quarter. Returns how many we have.
pub fn spare_files(count: u64) -> io::Result<u64> {
    let (_, hard) = file_limit()?;
    let soft = hard - count.min(hard / 4);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(soft)
}

/// A user as a process can be started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its numbers.
    pub credentials: Credentials,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its home, if it is known.
    pub home: Option<String>,
}

impl Account {
    /// The variables that a process run as this account gets: `HOME`, `USER` and `LOGNAME`, as far as they are known.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("HOME", &self.home), ("USER", &self.name), ("LOGNAME", &self.name)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Finds a user and a group, each by name or number; without a group the user's own, without a user ourselves. `None`
/// if that is who we are. Looks into the system's databases, which may be across a network.
///
/// # Errors
/// `NotFound`, in words, if there is none of this name; whatever else went wrong may be better next time.
pub fn account(user: Option<&str>, group: Option<&str>) -> io::Result<Option<Account>> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let (uid, known) = match user {
        Some(text) => find_user(text)?,
        None => (Uid::effective(), User::from_uid(Uid::effective()).ok().flatten()),
    };
    let gid = match (group, &known) {
        (Some(text), _) => find_group(text)?,
        (None, Some(known)) => known.gid,
        (None, None) => {
            return Err(missing(&format!("group of user {uid}, who is no known user: name one with `gid`")));
        }
    };
    if !Uid::effective().is_root() && (uid, gid) == (Uid::effective(), Gid::effective()) {
        return Ok(None);
    }
    let name = known.as_ref().and_then(|known| CString::new(known.name.as_str()).ok());
    let groups = name.and_then(|name| unistd::getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Account {
        credentials: Credentials { uid: uid.as_raw(), gid: gid.as_raw(), groups },
        home: known.as_ref().map(|known| known.dir.to_string_lossy().into_owned()),
        name: known.map(|known| known.name),
    }))
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {what}"))
}

fn find_user(text: &str) -> io::Result<(Uid, Option<User>)> {
    if let Some(known) = User::from_name(text)? {
        return Ok((known.uid, Some(known)));
    }
    let uid = Uid::from_raw(text.parse().map_err(|_| missing(&format!("user `{text}`")))?);
    Ok((uid, User::from_uid(uid)?))
}

fn find_group(text: &str) -> io::Result<Gid> {
    match Group::from_name(text)? {
        Some(known) => Ok(known.gid),
        None => text.parse().map(Gid::from_raw).map_err(|_| missing(&format!("group `{text}`"))),
    }
}

/// Makes somebody else the owner of an open file.
///
/// # Errors
/// `EPERM` without privileges.
pub fn give(file: impl AsFd, to: &Credentials) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, Some(rustix::fs::Uid::from_raw(to.uid)), None)?)
}

/// The same for a file by its path.
///
/// # Errors
/// `EPERM` without privileges.
pub fn give_path(path: &std::path::Path, to: &Credentials) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(to.uid), Some(to.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(account(None, None).unwrap(), None);
        let root = account(Some("root"), Some("0")).unwrap().unwrap();
        assert_eq!((root.credentials.uid, root.credentials.gid), (0, 0));
        assert_eq!((root.name.as_deref(), root.home.as_deref()), (Some("root"), Some("/root")));
        assert_eq!(account(Some("0"), Some("root")).unwrap().unwrap(), root);
        let stranger = account(Some("4000000"), Some("4000001")).unwrap().unwrap();
        assert_eq!(stranger.credentials, Credentials { uid: 4_000_000, gid: 4_000_001, groups: vec![4_000_001] });
        for (user, group, why) in [
            (Some("4000000"), None, "there is no group of user 4000000, who is no known user: name one with `gid`"),
            (Some("no such"), None, "there is no user `no such`"),
            (None, Some("no such"), "there is no group `no such`"),
        ] {
            let error = account(user, group).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::NotFound, why));
        }
    }
}
