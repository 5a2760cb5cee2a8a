//! What a started program finds, and what is left over in the process that started it. All tests use both system calls.

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

/// A shell without arguments, descriptors or confinement.
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

/// Starts the shell with this command, waits until it succeeds, and returns its pid and its output.
fn output(way: Way, launch: &Launch<'_>, script: &str) -> (i32, String) {
    let (mut read, write) = std::io::pipe().unwrap();
    let null = null();
    let (argv, fds) = (line(script), [null.as_fd(), write.as_fd(), write.as_fd()]);
    let pid = go(way, &Launch { argv: &argv, fds: &fds, ..*launch }).unwrap().pid;
    drop(write);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let status = waitpid(Pid::from_raw(pid), None).unwrap();
    assert_eq!(status, WaitStatus::Exited(Pid::from_raw(pid), 0), "{text}");
    (pid, text)
}

fn failure(way: Way, launch: &Launch<'_>) -> Failure {
    let null = null();
    go(way, &Launch { argv: &line("exit 0"), fds: &[null.as_fd(); 3], ..*launch }).unwrap_err()
}

#[test]
fn a_program_gets_its_folder_its_variables_a_session_and_no_other_descriptors() {
    // A descriptor that is not close-on-exec, as some libraries open them.
    let careless = rustix::io::dup(null()).unwrap();
    let env = ["A=1".to_owned(), "B=two words".to_owned()];
    for way in WAYS {
        let script = "pwd; env | sort; echo $$; ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f6 /proc/$$/stat";
        let (pid, text) = output(way, &Launch { cwd: Path::new("/tmp"), env: &env, ..shell() }, script);
        assert_eq!(text.lines().next(), Some("/tmp"));
        assert!(text.contains("\nA=1\nB=two words\n"), "{text}");
        // `ls` itself has descriptor 3 open, for the folder that it lists.
        assert!(text.contains("\n0 1 2 3 "), "{text}");
        assert_eq!(text.trim_end().rsplit([' ', '\n']).next(), Some(pid.to_string().as_str()), "leads its session");
    }
    drop(careless);
}

#[test]
fn a_program_starts_with_all_signals_at_their_default_and_unblocked() {
    // Rust ignores SIGPIPE, and the test blocks a signal.
    use nix::sys::signal::{SigSet, Signal};
    let mut some = SigSet::empty();
    some.add(Signal::SIGUSR1);
    some.thread_block().unwrap();
    for way in WAYS {
        let (_, status) = output(way, &shell(), "exec cat /proc/self/status");
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(["SigBlk:", "SigIgn:", "SigCgt:"].map(field), ["0000000000000000"; 3], "{way:?}");
    }
    assert_eq!(SigSet::thread_get_mask().unwrap(), some, "the mask of this process is unchanged");
    some.thread_unblock().unwrap();
}

#[test]
fn a_program_gets_its_pid_in_a_variable() {
    for way in WAYS {
        let (pid, text) = output(way, &Launch { pid_slot: Some("LISTEN_PID"), ..shell() }, "echo $LISTEN_PID; env");
        assert_eq!(text.lines().next(), Some(pid.to_string().as_str()));
        assert!(text.contains(&format!("LISTEN_PID={pid}\n")), "{text}");
    }
}

#[test]
fn descriptors_may_have_each_others_numbers() {
    in_a_process_of_its_own("descriptors_may_have_each_others_numbers", || {
        let mut pipes = Vec::new();
        for number in [3, 4, 5] {
            let (read, write) = std::io::pipe().unwrap();
            // Above the low numbers.
            pipes.push(File::from(rustix::io::fcntl_dupfd_cloexec(read, 50).unwrap()));
            place(&rustix::io::fcntl_dupfd_cloexec(write, 50).unwrap(), number);
        }
        // 4 and 5 are swapped, 3 keeps its number, and 0 and 6 are copies of 3.
        let numbers = [3, 4, 5, 3, 5, 4, 3];
        // SAFETY: opened above, and never closed.
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
    // SAFETY: the process runs only this test, which has no files under these numbers.
    assert_eq!(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
}

#[test]
fn a_failed_start_names_the_step() {
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
fn limits_apply_to_the_program_and_not_to_its_parent() {
    let before = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let limits = [Rlimit { resource: Resource::Nofile, soft: 60, hard: 70 }];
    for way in WAYS {
        let (_, text) = output(
            way,
            &confined(Confinement { rlimits: &limits, ..Confinement::default() }),
            "ulimit -S -n; ulimit -H -n",
        );
        assert_eq!(text, "60\n70\n");
    }
    assert_eq!(nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap(), before);
}

#[test]
fn a_program_runs_as_the_given_user_with_the_given_groups_only() {
    let somebody = Credentials { uid: 4321, gid: 4322, groups: vec![4323, 4324] };
    for way in WAYS {
        let become_somebody = confined(Confinement { credentials: Some(&somebody), ..Confinement::default() });
        if crate::os::process::identity::uid() != 0 {
            let refused = failure(way, &become_somebody);
            assert_eq!((refused.step, refused.error.kind()), (Step::Groups, io::ErrorKind::PermissionDenied));
            continue;
        }
        let (_, text) = output(way, &become_somebody, "grep -E '^(Uid|Gid|Groups)' /proc/self/status; id -u");
        assert!(text.contains("Uid:\t4321\t4321\t4321\t4321\n"), "{text}");
        assert!(text.contains("Gid:\t4322\t4322\t4322\t4322\n"), "{text}");
        assert!(text.contains("Groups:\t4323 4324 \n") && text.ends_with("\n4321\n"), "{text}");
        assert_eq!(crate::os::process::identity::uid(), 0, "we are who we were");
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 1, "we can be looked into as before");
    }
}

#[test]
fn a_program_can_be_kept_from_new_privileges() {
    for way in WAYS {
        let (_, text) = output(
            way,
            &confined(Confinement { no_new_privs: true, ..Confinement::default() }),
            "grep NoNewPrivs /proc/self/status",
        );
        assert_eq!(text, "NoNewPrivs:\t1\n");
    }
}

#[test]
fn the_binds_of_a_program_can_be_intercepted() {
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
        let (_, text) = output(way, &watched, text);
        let limited = i32::from(!found.keeps_privileges);
        // `ls` itself has descriptor 3 open, for the folder that it lists.
        assert_eq!(text, format!("0 1 2 3 NoNewPrivs:\t{limited}\nSeccomp:\t2\n"), "{way:?}");
        let watch = pending.take().unwrap();
        assert!(rustix::io::fcntl_getfd(&watch).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(watch.next().unwrap(), None, "nobody is left");
    }
}

#[test]
fn paths_can_be_read_only_and_tmp_private() {
    // As the present user and, if that is root, as `nobody`, which takes a user namespace.
    in_a_process_of_its_own("paths_can_be_read_only_and_tmp_private", || {
        files_are_isolated();
        if crate::os::process::identity::uid() == 0 {
            let nobody = nix::unistd::Uid::from_raw(65534);
            nix::unistd::setresuid(nobody, nobody, nobody).unwrap();
            // After a change of user a process cannot read its own files in /proc.
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
    let script = "touch new 2>/dev/null; ls; ls -A /tmp | wc -l; touch /tmp/mine; ls /tmp; id -u";
    for way in WAYS {
        let protected = Confinement { read_only: &read_only, ..Confinement::default() };
        let (_, text) = output(way, &Launch { cwd: folder.path(), ..confined(protected) }, "touch new 2>/dev/null; ls");
        assert_eq!(text, "kept\n", "nothing new");
        let both = Confinement { private_tmp: true, ..protected };
        let (_, text) = output(way, &Launch { cwd: Path::new("/usr"), ..confined(both) }, script);
        let uid = crate::os::process::identity::uid();
        assert!(text.ends_with(&format!("\n0\nmine\n{uid}\n")), "{text}");
        assert!(seen_here.path().exists() && !Path::new("/tmp/mine").exists(), "/tmp of this process is unchanged");
        let missing = [PathBuf::from("/no/such/folder")];
        let refused = failure(way, &confined(Confinement { read_only: &missing, ..Confinement::default() }));
        assert_eq!(refused.to_string(), "making /no/such/folder read-only: No such file or directory (os error 2)");
    }
}

#[test]
fn a_program_is_started_in_a_container_that_forbids_clone3() {
    in_a_process_of_its_own("a_program_is_started_in_a_container_that_forbids_clone3", || {
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

/// Has `clone3` fail with this error in this thread from now on. Of several filters with the same action the last one
/// decides.
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
    // SAFETY: the kernel copies the filter, whose length is in `len`.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn a_sibling_is_a_child_of_the_parent() {
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
    let again = this_test("a_sibling_is_a_child_of_the_parent").env(OUT, out.path()).output().unwrap();
    assert!(again.status.success(), "{again:?}");
    let pids = fs::read_to_string(out.path()).unwrap();
    assert_eq!(pids.split(' ').count(), 2);
    for pid in pids.split(' ').map(|pid| Pid::from_raw(pid.parse().unwrap())) {
        assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 7));
    }
}

#[test]
fn a_start_leaves_no_descriptor_and_no_mapping() {
    in_a_process_of_its_own("a_start_leaves_no_descriptor_and_no_mapping", || {
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
        // Memory that the first starts allocate may stay.
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

/// A command that runs this test in a process of its own.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (_, module) = module_path!().split_once("::").expect("the path begins with the crate");
    command.args(["--exact", &format!("{module}::{name}"), "--test-threads=1"]);
    command
}

/// Runs a test in a process of its own: for tests of the state of the whole process, in which other tests run, too.
fn in_a_process_of_its_own(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "PMR_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = this_test(name).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
