//! Starting a program in a session of its own, with named descriptors and nothing else.
//!
//! Through `posix_spawn`, which does not copy our page tables: its cost does not grow with the daemon.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The file to execute.
    pub program: &'a Path,
    /// What the program sees as its own name and its arguments.
    pub argv: &'a [&'a OsStr],
    /// Its whole environment, as `NAME=value`.
    pub env: &'a [String],
    /// Its working directory.
    pub cwd: &'a Path,
    /// Descriptors 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Descriptor 3, if it is to have one.
    pub fourth: Option<BorrowedFd<'a>>,
}

/// Starts it and returns its pid, which is its session and process group as well. Every signal is back to its default
/// and unblocked. All descriptors of ours must be close-on-exec, as those the standard library opens are.
pub fn spawn(launch: &Launch<'_>) -> io::Result<i32> {
    let program = c_string(launch.program.as_os_str())?;
    let argv = launch.argv.iter().map(|arg| c_string(arg)).collect::<io::Result<Vec<_>>>()?;
    let env = launch.env.iter().map(|entry| c_string(OsStr::new(entry))).collect::<io::Result<Vec<_>>>()?;
    let mut actions = Actions::new()?;
    actions.chdir(launch.cwd)?;
    // Descriptor 3 last: until then, ours of that number may be one of the sources.
    for (number, fd) in (0..).zip(launch.stdio.into_iter().chain(launch.fourth)) {
        actions.duplicate(fd, number)?;
    }
    let attributes = Attributes::new()?;
    let (argv, env) = (pointers(&argv), pointers(&env));
    let mut pid = 0;
    // SAFETY: every pointer comes from a value that lives until after the call, and both arrays end in null.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            env.as_ptr(),
        )
    };
    check(result).map(|()| pid)
}

/// A pipe whose read end is non-blocking, for us, and whose write end is a plain one, for a child.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Actions> {
        let mut raw = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises the value it is given, or fails.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: it was just initialised.
        Ok(Actions(unsafe { raw.assume_init() }))
    }

    fn duplicate(&mut self, from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
        // SAFETY: `self.0` is initialised. Where both numbers are equal, the call clears close-on-exec.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from.as_raw_fd(), to) })
    }

    fn chdir(&mut self, folder: &Path) -> io::Result<()> {
        let folder = c_string(folder.as_os_str())?;
        // SAFETY: `self.0` is initialised; the path is copied by the call.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, folder.as_ptr()) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: it is initialised and dropped once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A session of its own, default signal dispositions, nothing blocked.
    fn new() -> io::Result<Attributes> {
        let mut raw = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises the value it is given, or fails.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: it was just initialised.
        let mut attributes = Attributes(unsafe { raw.assume_init() });
        let flags = i32::from(libc::POSIX_SPAWN_SETSID) | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::c_short::try_from(flags).expect("the flags are small numbers");
        let (mut all, mut none) = (std::mem::MaybeUninit::uninit(), std::mem::MaybeUninit::uninit());
        // SAFETY: the sets are initialised by the first two calls, the attributes are above; none keeps a pointer.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(none.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, all.as_ptr()))?;
            check(libc::posix_spawnattr_setsigmask(&raw mut attributes.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it is initialised and dropped once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in a path, argument or variable"))
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn shell(line: &str, env: &[String], cwd: &Path, fourth: Option<BorrowedFd<'_>>) -> io::Result<(i32, String)> {
        let null = File::options().read(true).open("/dev/null")?;
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let argv = [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(line)];
        let stdio = [null.as_fd(), write.as_fd(), write.as_fd()];
        let pid = spawn(&Launch { program: Path::new("/bin/sh"), argv: &argv, env, cwd, stdio, fourth })?;
        drop(write);
        let mut said = String::new();
        File::from(read).read_to_string(&mut said)?;
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
        Ok((pid, said))
    }

    #[test]
    fn it_gets_its_folder_its_variables_a_session_and_no_descriptor_of_ours() {
        crate::os::detach::seal_inherited().unwrap();
        let line = "pwd; env | sort; echo $$; ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f6 /proc/$$/stat";
        let (pid, said) = shell(line, &["A=1".into(), "B=two words".into()], Path::new("/tmp"), None).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "/tmp");
        assert!(said.contains("\nA=1\nB=two words\n"), "{said}");
        // `ls` itself holds 3 for the folder it lists.
        assert!(said.contains("\n0 1 2 3 "), "{said}");
        assert_eq!(said.trim_end().rsplit([' ', '\n']).next(), Some(pid.to_string().as_str()), "leads its session");
    }

    #[test]
    fn the_fourth_descriptor_is_number_three() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        shell("echo hello >&3", &[], Path::new("/"), Some(theirs.as_fd())).unwrap();
        drop(theirs);
        let mut said = String::new();
        (&ours).read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello\n");
    }

    #[test]
    fn what_cannot_be_started_says_so() {
        let null = File::open("/dev/null").unwrap();
        let try_it = |program: &str, cwd: &str| {
            let stdio = [null.as_fd(); 3];
            let (program, cwd) = (Path::new(program), Path::new(cwd));
            spawn(&Launch { program, argv: &[OsStr::new("x")], env: &[], cwd, stdio, fourth: None }).unwrap_err().kind()
        };
        assert_eq!(try_it("/no/such/file", "/"), io::ErrorKind::NotFound);
        assert_eq!(try_it("/bin/sh", "/no/such/folder"), io::ErrorKind::NotFound);
        assert_eq!(try_it("/etc/passwd", "/"), io::ErrorKind::PermissionDenied);
        assert_eq!(try_it("/bin/s\0h", "/"), io::ErrorKind::InvalidInput);
    }
}
