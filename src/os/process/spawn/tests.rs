//! What a started program sees of the world, and what is left over in ours. Everything is tried with both system calls.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;
use crate::os::process::credentials::Credentials;
use crate::os::tracer::Tracer;

mod bound;

const WAYS: [Way; 2] = [Way::Clone3, Way::Clone];

fn go(way: Way, launch: &Launch<'_>) -> Result<Spawned, Failure> {
    run(launch, &mut plan(launch).unwrap(), way)
}

/// A shell without arguments or descriptors, as free as we are.
fn shell() -> Launch<'static> {
    Launch {
        program: Path::new("/bin/sh"),
        argv: &[],
        env: &[],
        pid_slot: None,
        cwd: Path::new("/"),
        fds: &[],
        sibling: false,
        confinement: Confinement::default(),
    }
}

fn confined(confinement: Confinement<'_>) -> Launch<'_> {
    Launch { confinement, ..shell() }
}

fn line(text: &str) -> [&OsStr; 3] {
    ["sh", "-c", text].map(OsStr::new)
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// Starts it with its output in a pipe, waits for its good end, and returns its pid and what it said.
fn said(way: Way, launch: &Launch<'_>, text: &str) -> (i32, String) {
    let (mut read, write) = std::io::pipe().unwrap();
    let null = null();
    let (argv, fds) = (line(text), [null.as_fd(), write.as_fd(), write.as_fd()]);
    let pid = go(way, &Launch { argv: &argv, fds: &fds, ..*launch }).unwrap().pid;
    drop(write);
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    let status = waitpid(Pid::from_raw(pid), None).unwrap();
    assert_eq!(status, WaitStatus::Exited(Pid::from_raw(pid), 0), "{said}");
    (pid, said)
}

fn failure(way: Way, launch: &Launch<'_>) -> Failure {
    let null = null();
    go(way, &Launch { argv: &line("exit 0"), fds: &[null.as_fd(); 3], ..*launch }).unwrap_err()
}

#[test]
fn it_gets_its_folder_its_variables_a_session_and_no_descriptor_of_ours() {
    // A descriptor that is not close-on-exec, as careless libraries open them.
    let careless = rustix::io::dup(null()).unwrap();
    let env = ["A=1".to_owned(), "B=two words".to_owned()];
    for way in WAYS {
        let text = "pwd; env | sort; echo $$; ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f6 /proc/$$/stat";
        let (pid, said) = said(way, &Launch { cwd: Path::new("/tmp"), env: &env, ..shell() }, text);
        assert_eq!(said.lines().next(), Some("/tmp"));
        assert!(said.contains("\nA=1\nB=two words\n"), "{said}");
        // `ls` itself holds 3 for the folder it lists.
        assert!(said.contains("\n0 1 2 3 "), "{said}");
        assert_eq!(said.trim_end().rsplit([' ', '\n']).next(), Some(pid.to_string().as_str()), "leads its session");
    }
    drop(careless);
}

#[test]
fn signals_are_neither_ignored_nor_blocked_nor_handled() {
    // Rust ignores SIGPIPE; blocked is something here.
    use nix::sys::signal::{SigSet, Signal};
    let mut some = SigSet::empty();
    some.add(Signal::SIGUSR1);
    some.thread_block().unwrap();
    for way in WAYS {
        let (_, status) = said(way, &shell(), "exec cat /proc/self/status");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(["SigBlk:", "SigIgn:", "SigCgt:"].map(field), ["0000000000000000"; 3], "{way:?}");
    }
    assert_eq!(SigSet::thread_get_mask().unwrap(), some, "ours is as it was");
    some.thread_unblock().unwrap();
}

#[test]
fn it_is_told_its_pid() {
    for way in WAYS {
        let (pid, said) = said(way, &Launch { pid_slot: Some("LISTEN_PID"), ..shell() }, "echo $LISTEN_PID; env");
        assert_eq!(said.lines().next(), Some(pid.to_string().as_str()));
        assert!(said.contains(&format!("LISTEN_PID={pid}\n")), "{said}");
    }
}

#[test]
fn descriptors_may_lie_on_each_others_numbers() {
    in_a_process_of_its_own("descriptors_may_lie_on_each_others_numbers", || {
        let mut pipes = Vec::new();
        for number in [3, 4, 5] {
            let (read, write) = std::io::pipe().unwrap();
            // Out of the way of the low numbers.
            pipes.push(File::from(rustix::io::fcntl_dupfd_cloexec(read, 50).unwrap()));
            place(&rustix::io::fcntl_dupfd_cloexec(write, 50).unwrap(), number);
        }
        // 4 and 5 trade places, 3 stays where it is, and 0 and 6 are the same as 3.
        let numbers = [3, 4, 5, 3, 5, 4, 3];
        // SAFETY: opened above, and closed by nobody.
        let fds: Vec<_> = numbers.iter().map(|number| unsafe { BorrowedFd::borrow_raw(*number) }).collect();
        for way in WAYS {
            let argv = line("for n in 0 1 2 3 4 5 6; do echo $n >&$n; done");
            let Spawned { pid, .. } = go(way, &Launch { argv: &argv, fds: &fds, ..shell() }).unwrap();
            waitpid(Pid::from_raw(pid), None).unwrap();
            let read = |at: usize| {
                let mut buffer = [0; 64];
                let count = (&pipes[at]).read(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..count]).replace('\n', "")
            };
            assert_eq!([read(0), read(1), read(2)], ["036", "15", "24"], "{way:?}");
        }
    });
}

fn place(fd: &OwnedFd, number: i32) {
    // SAFETY: the process runs this test only, and nothing of it has these numbers.
    assert_eq!(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
}

#[test]
fn what_cannot_be_started_names_the_step() {
    for way in WAYS {
        let no_file = failure(way, &Launch { program: Path::new("/no/such/file"), ..shell() });
        assert_eq!((no_file.step, no_file.error.kind()), (Step::Execute, io::ErrorKind::NotFound));
        assert_eq!(no_file.to_string(), "/no/such/file: No such file or directory (os error 2)");
        let no_folder = failure(way, &Launch { cwd: Path::new("/no/such/folder"), ..shell() });
        assert_eq!(no_folder.error.kind(), io::ErrorKind::NotFound);
        assert_eq!(no_folder.to_string(), "changing to folder /no/such/folder: No such file or directory (os error 2)");
        let not_executable = failure(way, &Launch { program: Path::new("/etc/passwd"), ..shell() });
        assert_eq!(not_executable.error.kind(), io::ErrorKind::PermissionDenied);
        let too_many = [Rlimit { resource: Resource::Nofile, soft: 5, hard: 4 }];
        let no_limit = failure(way, &confined(Confinement { rlimits: &too_many, ..Confinement::default() }));
        assert_eq!(no_limit.to_string(), "setting its limit of open files: Invalid argument (os error 22)");
        let file = null();
        let no_cgroup = failure(way, &confined(Confinement { cgroup: Some(file.as_fd()), ..Confinement::default() }));
        assert_eq!(no_cgroup.step, if way == Way::Clone { Step::Cgroup } else { Step::Clone }, "{no_cgroup}");
    }
}

#[test]
fn a_zero_byte_is_refused_before_anything_happens() {
    let fds = [];
    let argv = line("exit 0\0");
    let refused = spawn(&Launch { argv: &argv, fds: &fds, ..shell() }).unwrap_err();
    assert_eq!((refused.step, refused.error.kind()), (Step::Arguments, io::ErrorKind::InvalidInput));
}

#[test]
fn limits_hold_in_it_and_not_in_us() {
    let before = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let limits = [Rlimit { resource: Resource::Nofile, soft: 60, hard: 70 }];
    for way in WAYS {
        let (_, said) = said(
            way,
            &confined(Confinement { rlimits: &limits, ..Confinement::default() }),
            "ulimit -S -n; ulimit -H -n",
        );
        assert_eq!(said, "60\n70\n");
    }
    assert_eq!(nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap(), before);
}

#[test]
fn it_is_who_it_shall_be_with_these_groups_only() {
    let somebody = Credentials { uid: 4321, gid: 4322, groups: vec![4323, 4324] };
    for way in WAYS {
        let become_somebody = confined(Confinement { credentials: Some(&somebody), ..Confinement::default() });
        if crate::os::process::identity::uid() != 0 {
            let refused = failure(way, &become_somebody);
            assert_eq!((refused.step, refused.error.kind()), (Step::Groups, io::ErrorKind::PermissionDenied));
            continue;
        }
        let (_, said) = said(way, &become_somebody, "grep -E '^(Uid|Gid|Groups)' /proc/self/status; id -u");
        assert!(said.contains("Uid:\t4321\t4321\t4321\t4321\n"), "{said}");
        assert!(said.contains("Gid:\t4322\t4322\t4322\t4322\n"), "{said}");
        assert!(said.contains("Groups:\t4323 4324 \n") && said.ends_with("\n4321\n"), "{said}");
        assert_eq!(crate::os::process::identity::uid(), 0, "we are who we were");
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 1, "we can be looked into as before");
    }
}

#[test]
fn new_privileges_can_be_given_up() {
    for way in WAYS {
        let (_, said) = said(
            way,
            &confined(Confinement { no_new_privs: true, ..Confinement::default() }),
            "grep NoNewPrivs /proc/self/status",
        );
        assert_eq!(said, "NoNewPrivs:\t1\n");
    }
}

#[test]
fn its_binds_can_be_watched() {
    use crate::os::seccomp;
    let found = seccomp::ability::ability(None, &Tracer::direct()).unwrap();
    for way in WAYS {
        let (pending, theirs) = seccomp::handover().unwrap();
        let watched = confined(Confinement { watch_binds: Some(theirs.as_fd()), ..Confinement::default() });
        let text = "ls /proc/self/fd | tr '\\n' ' '; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status";
        if found.notify.is_err() {
            let refused = failure(way, &watched);
            assert_eq!(refused.step, Step::WatchBinds, "{refused}");
            continue;
        }
        let (_, said) = said(way, &watched, text);
        let limited = i32::from(!found.keeps_privileges);
        // `ls` itself holds 3 for the folder it lists.
        assert_eq!(said, format!("0 1 2 3 NoNewPrivs:\t{limited}\nSeccomp:\t2\n"), "{way:?}");
        let watch = pending.take().unwrap();
        assert!(rustix::io::fcntl_getfd(&watch).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(watch.next().unwrap(), None, "nobody is left");
    }
}

#[test]
fn paths_can_be_protected_and_tmp_be_its_own() {
    // Both as we are and, if we are root, as nobody in particular: that takes a user namespace.
    in_a_process_of_its_own("paths_can_be_protected_and_tmp_be_its_own", || {
        files_are_isolated();
        if crate::os::process::identity::uid() == 0 {
            let nobody = nix::unistd::Uid::from_raw(65534);
            nix::unistd::setresuid(nobody, nobody, nobody).unwrap();
            // Who changes its user hides its files in /proc, even from itself.
            // SAFETY: the call takes numbers only.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
            files_are_isolated();
        }
    });
}

fn files_are_isolated() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(folder.path().join("kept"), "").unwrap();
    let seen_here = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let read_only = [folder.path().to_owned()];
    let text = "touch new 2>/dev/null; ls; ls -A /tmp | wc -l; touch /tmp/mine; ls /tmp; id -u";
    for way in WAYS {
        let protected = Confinement { read_only: &read_only, ..Confinement::default() };
        let (_, said) = said(way, &Launch { cwd: folder.path(), ..confined(protected) }, "touch new 2>/dev/null; ls");
        assert_eq!(said, "kept\n", "nothing new");
        let both = Confinement { private_tmp: true, ..protected };
        let (_, said) = self::said(way, &Launch { cwd: Path::new("/usr"), ..confined(both) }, text);
        let uid = crate::os::process::identity::uid();
        assert!(said.ends_with(&format!("\n0\nmine\n{uid}\n")), "{said}");
        assert!(seen_here.path().exists() && !Path::new("/tmp/mine").exists(), "ours is as it was");
        let missing = [PathBuf::from("/no/such/folder")];
        let refused = failure(way, &confined(Confinement { read_only: &missing, ..Confinement::default() }));
        assert_eq!(refused.to_string(), "making /no/such/folder read-only: No such file or directory (os error 2)");
    }
}

#[test]
fn a_container_that_forbids_clone3_is_no_obstacle() {
    in_a_process_of_its_own("a_container_that_forbids_clone3_is_no_obstacle", || {
        for errno in [libc::ENOSYS, libc::EPERM] {
            forbid_clone3(errno);
            let null = null();
            let (argv, fds) = (line("exit 0"), [null.as_fd(); 3]);
            let launch = Launch { argv: &argv, fds: &fds, ..shell() };
            assert_eq!(go(Way::Clone3, &launch).unwrap_err().error.raw_os_error(), Some(errno));
            let pid = Pid::from_raw(spawn(&launch).unwrap().pid);
            assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
        }
    });
}

/// From now on, in this thread, the system call is answered with this error. The last of several filters wins if its
/// answer is as severe.
fn forbid_clone3(errno: i32) {
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap();
    let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
    let mut filter = [
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, clone3),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, answer),
        line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the filter, which is as long as it says.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn a_sibling_is_our_parents_child() {
    const OUT: &str = "PMR_SIBLING_OUT";
    if let Some(out) = std::env::var_os(OUT) {
        let null = null();
        let (argv, fds) = (line("exit 7"), [null.as_fd(); 3]);
        let pids = WAYS.map(|way| {
            let spawned = go(way, &Launch { sibling: true, argv: &argv, fds: &fds, ..shell() }).unwrap();
            let ours = waitpid(Pid::from_raw(spawned.pid), None);
            assert_eq!(ours, Err(nix::errno::Errno::ECHILD), "it is not our child");
            spawned.pid.to_string()
        });
        return fs::write(out, pids.join(" ")).unwrap();
    }
    let out = tempfile::NamedTempFile::new().unwrap();
    let again = this_test("a_sibling_is_our_parents_child").env(OUT, out.path()).output().unwrap();
    assert!(again.status.success(), "{again:?}");
    let pids = fs::read_to_string(out.path()).unwrap();
    assert_eq!(pids.split(' ').count(), 2);
    for pid in pids.split(' ').map(|pid| Pid::from_raw(pid.parse().unwrap())) {
        assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 7));
    }
}

#[test]
fn nothing_is_left_over() {
    in_a_process_of_its_own("nothing_is_left_over", || {
        let count = || (fs::read_dir("/proc/self/fd").unwrap().count(), mappings());
        let null = null();
        let (argv, fds) = (line("exit 0"), [null.as_fd(); 3]);
        let missing = Launch { program: Path::new("/no/such/file"), argv: &argv, fds: &fds, ..shell() };
        let round = |way| {
            let Spawned { pid, pidfd } = go(way, &Launch { argv: &argv, fds: &fds, ..shell() }).unwrap();
            crate::os::process::reap::reap(pid);
            drop(pidfd);
            go(way, &missing).unwrap_err();
        };
        // What the first ones allocate may stay.
        WAYS.into_iter().for_each(round);
        let before = count();
        for way in WAYS {
            (0..200).for_each(|_| round(way));
        }
        assert_eq!(count(), before);
        assert_eq!(waitpid(None, None), Err(nix::errno::Errno::ECHILD), "no child is left");
    });
}

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// This test in a process of its own.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").expect("the path begins with the crate");
    command.args(["--exact", &format!("{module}::{name}"), "--test-threads=1"]);
    command
}

/// For what looks at the whole process, in which other tests run otherwise.
fn in_a_process_of_its_own(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "PMR_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = this_test(name).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
