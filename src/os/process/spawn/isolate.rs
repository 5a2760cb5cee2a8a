//! Isolation of a process's files: paths that it cannot change, and a `/tmp` of its own. Runs in the child and keeps
//! the rules of [`super::child`].

use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};

use super::launch::Step;
use super::syscall::{c_string, check, errno};

/// What is to be mounted, prepared by the parent.
pub(super) struct Isolation {
    read_only: Vec<CString>,
    private_tmp: bool,
    /// Contents of `uid_map` and `gid_map` if a user namespace is needed: the own user and group, under their own
    /// numbers.
    uid_map: String,
    gid_map: String,
}

impl Isolation {
    /// `None` if nothing is to be isolated.
    pub(super) fn new(read_only: &[PathBuf], private_tmp: bool) -> io::Result<Option<Isolation>> {
        if read_only.is_empty() && !private_tmp {
            return Ok(None);
        }
        let (uid, gid) = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
        Ok(Some(Isolation {
            read_only: read_only
                .iter()
                .map(|path: &PathBuf| c_string(Path::as_os_str(path)))
                .collect::<io::Result<_>>()?,
            private_tmp,
            uid_map: format!("{uid} {uid} 1"),
            gid_map: format!("{gid} {gid} 1"),
        }))
    }

    /// Mounts all of it in a mount namespace of this process's own.
    pub(super) fn enter(&self) -> Result<(), Step> {
        self.unshare()?;
        // Later mounts in this namespace do not appear in others, nor theirs in this one.
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None, Step::Namespace)?;
        for (number, path) in self.read_only.iter().enumerate() {
            let step = Step::ReadOnly(number);
            mount(Some(path), path, None, libc::MS_BIND | libc::MS_REC, None, step)?;
            make_read_only(path, step)?;
        }
        if self.private_tmp {
            private_tmp(c"/tmp")?;
            if private_tmp(c"/var/tmp").is_err() && errno() != libc::ENOENT {
                return Err(Step::PrivateTmp);
            }
        }
        Ok(())
    }

    fn unshare(&self) -> Result<(), Step> {
        // SAFETY: the call takes numbers only.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 {
            return Ok(());
        }
        // Without privileges this takes a user namespace, in which this process is root and there is no other user.
        // SAFETY: the call takes numbers only.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }, Step::Namespace)?;
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/uid_map", &self.uid_map)?;
        write(c"/proc/self/gid_map", &self.gid_map)
    }
}

/// Enters the mount namespace of the process behind this pidfd.
pub(super) fn share_view(process: i32) -> Result<(), Step> {
    // SAFETY: the call takes numbers only.
    if unsafe { libc::setns(process, libc::CLONE_NEWNS) } == 0 {
        return Ok(());
    }
    // Without privileges that process has a user namespace of its own, see above, which must be entered first.
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::setns(process, libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }, Step::Namespace)
}

fn private_tmp(folder: &CStr) -> Result<(), Step> {
    let (kind, flags) = (c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV);
    mount(Some(kind), folder, Some(kind), flags, Some(c"mode=1777"), Step::PrivateTmp)
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
    step: Step,
) -> Result<(), Step> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all strings end in a zero byte; the kernel ignores those that are null.
    let result = unsafe { libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast()) };
    check(result, step)
}

/// Makes the mount and all mounts beneath it read-only, and leaves their other flags as they are. `mount_setattr`
/// exists since Linux 5.12.
fn make_read_only(path: &CStr, step: Step) -> Result<(), Step> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY;
    // SAFETY: the kernel reads the path and the structure, whose size is an argument.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result as i64, step)
}

fn write(file: &CStr, text: &str) -> Result<(), Step> {
    // SAFETY: the path ends in a zero byte.
    let file = unsafe { libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(file, Step::Namespace)?;
    // SAFETY: the kernel reads as many bytes as there are.
    check(unsafe { libc::write(file, text.as_ptr().cast(), text.len()) } as i64, Step::Namespace)
    // The descriptor is closed when the program is executed.
}
