//! What this process is to the kernel: its pid, user and limits, and whether it adopts orphans.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{self, Gid, Group, Uid, User};

use super::credentials::Credentials;

/// Pid of this process.
#[must_use]
pub fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Pid of this process's parent.
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

/// Ignores SIGXFSZ: from now on a write beyond the file size limit (`ulimit -f`) fails and does not kill the process.
/// Children start with the default again.
///
/// # Errors
/// None is known.
pub fn survive_file_size_limit() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: an ignored signal runs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    Ok(())
}

/// Makes this process the subreaper: descendants whose parent dies become its children.
///
/// # Errors
/// None is known.
pub fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

/// The soft and the hard limit of open files.
///
/// # Errors
/// None is known.
pub fn file_limit() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Raises the soft limit of open files to the hard one, and returns the former limits. A daemon holds several files for
/// each process that it watches.
///
/// # Errors
/// None is known.
pub fn raise_file_limit() -> io::Result<(u64, u64)> {
    let (soft, hard) = file_limit()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}

/// Lowers the soft limit of open files by `count`, but by a quarter at the most, and returns it. The next God inherits
/// the open files of this one, and needs free numbers to start when this one has used all of its own.
///
/// # Errors
/// None is known.
pub fn spare_files(count: u64) -> io::Result<u64> {
    let (_, hard) = file_limit()?;
    let soft = hard - count.min(hard / 4);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(soft)
}

/// A user that a process can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User and groups by number.
    pub credentials: Credentials,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its home folder, if it is known.
    pub home: Option<String>,
}

impl Account {
    /// The variables that a process run as this account gets: `HOME`, `USER` and `LOGNAME`, as far as they are known.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("HOME", &self.home), ("USER", &self.name), ("LOGNAME", &self.name)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Finds a user and a group, each by name or number. The default is the user of this process, and the user's own group.
/// `None` if these are the user and group of this process already. Reads the system's databases, which may be remote.
///
/// # Errors
/// `NotFound`, with a message, if there is no such user or group. Other errors are those of the databases, and may be
/// temporary.
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

/// Gives an open file to another user.
///
/// # Errors
/// `EPERM` without privileges.
pub fn give(file: impl AsFd, to: &Credentials) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, Some(rustix::fs::Uid::from_raw(to.uid)), None)?)
}

/// Gives a file, by its path, to another user and group. A symbolic link itself is given, not its target.
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
