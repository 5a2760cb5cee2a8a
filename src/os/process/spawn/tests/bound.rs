//! Programs that share the mount namespace of another process, and programs that end with their parent.

use std::io::{BufRead, BufReader};

use super::*;

#[test]
fn the_mount_namespace_of_another_process_is_shared() {
    in_a_process_of_its_own("bound::the_mount_namespace_of_another_process_is_shared", || {
        check_that_tmp_of_another_process_is_shared();
        if crate::os::process::identity::uid() == 0 {
            let nobody = nix::unistd::Uid::from_raw(65534);
            nix::unistd::setresuid(nobody, nobody, nobody).unwrap();
            // SAFETY: the call takes numbers only. See the test of read-only paths.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
            check_that_tmp_of_another_process_is_shared();
        }
    });
}

fn check_that_tmp_of_another_process_is_shared() {
    for way in WAYS {
        let (read, write) = std::io::pipe().unwrap();
        let null = null();
        let (argv, fds) = (line("touch /tmp/mine; echo there; exec sleep 300"), [null.as_fd(), write.as_fd()]);
        let alone = Confinement { private_tmp: true, ..Confinement::default() };
        let other = go(way, &Launch { argv: &argv, fds: &fds, ..confined(alone) }).unwrap();
        drop(write);
        let mut word = String::new();
        BufReader::new(read).read_line(&mut word).unwrap();
        assert_eq!(word, "there\n");
        let shared = Confinement { view_of: Some(other.pidfd.as_fd()), ..Confinement::default() };
        let (_, text) = output(way, &Launch { cwd: Path::new("/usr"), ..confined(shared) }, "ls /tmp; pwd; id -u");
        assert_eq!(text, format!("mine\n/usr\n{}\n", crate::os::process::identity::uid()));
        crate::os::process::pidfd::signal(&other.pidfd, libc::SIGKILL).unwrap();
        crate::os::process::reap::reap(other.pid);
        let gone = failure(way, &confined(shared));
        assert_eq!(gone.step, Step::Namespace);
    }
}

#[test]
fn a_program_ends_with_its_parent_whatever_its_user() {
    const OUT: &str = "PMR_BOUND_OUT";
    if let Some(out) = std::env::var_os(OUT) {
        let null = null();
        let (argv, fds) = (line("exec sleep 300"), [null.as_fd(); 3]);
        let nobody = Credentials { uid: 65534, gid: 65534, groups: vec![] };
        let credentials = (crate::os::process::identity::uid() == 0).then_some(&nobody);
        let bound = Confinement { credentials, dies_with_us: true, ..Confinement::default() };
        let launch = Launch { argv: &argv, fds: &fds, ..confined(bound) };
        let pids = WAYS.map(|way| go(way, &launch).unwrap().pid.to_string());
        fs::write(out, pids.join(" ")).unwrap();
        // Without any cleanup, and from the thread that started the programs.
        crate::os::process::clone_files::leave(9);
    }
    let out = tempfile::NamedTempFile::new().unwrap();
    let again = this_test("bound::a_program_ends_with_its_parent_whatever_its_user").env(OUT, out.path()).status();
    assert_eq!(again.unwrap().code(), Some(9));
    let pids = fs::read_to_string(out.path()).unwrap();
    assert_eq!(pids.split(' ').count(), 2);
    let start = std::time::Instant::now();
    for pid in pids.split(' ').map(|pid| pid.parse().unwrap()) {
        while crate::os::process::proc::stat(pid).is_some_and(|stat| !stat.is_zombie()) {
            assert!(start.elapsed() < std::time::Duration::from_secs(20), "{pid} still lives");
            std::thread::yield_now();
        }
    }
}
