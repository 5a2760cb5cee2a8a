//! Real groups, where this machine has them. Elsewhere the message of the refusal is checked.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;

use super::*;
use crate::os::eventually::eventually;
use crate::os::process::reap;
use crate::os::process::spawn;
use crate::os::process::spawn::{Confinement, Launch, Spawned};

fn here() -> (tempfile::TempDir, Cgroups) {
    let home = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::discover(home.path());
    (home, cgroups)
}

fn start(line: &str, group: &Cgroup) -> Spawned {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let entry = group.entry().unwrap();
    spawn::spawn(&Launch {
        program: Path::new("/bin/sh"),
        argv: &["sh", "-c", line].map(OsStr::new),
        env: &["PATH=/usr/bin:/bin".to_owned()],
        pid_slot: None,
        cwd: Path::new("/"),
        fds: &[null.as_fd(); 3],
        sibling: false,
        confinement: Confinement { cgroup: entry.folder(), cgroup_procs: &entry.procs(), ..Confinement::default() },
    })
    .unwrap()
}

#[test]
fn all_processes_of_a_run_are_found_and_killed_and_the_group_is_removed() {
    let (home, cgroups) = here();
    let Some(group) = cgroups.create(7, &Limits::default()).unwrap() else {
        return assert_eq!(cgroups.allowance().grouping, Hierarchy::None);
    };
    let pid = start("setsid env -i sleep 300 & setsid env -i sleep 300 & wait", &group).pid;
    eventually("three in the group", || group.procs().len() == 3);
    let procs = group.procs();
    assert!(procs.contains(&pid) && procs.iter().all(|pid| group.holds(&Membership::of(*pid))));
    assert!(!group.holds(&Membership::of(1)) && !group.holds(&Membership::of(-1)));
    assert!(!group.remove(), "it is not empty");
    // The next God finds the group, by its recorded paths and by listing the folder.
    let found = Cgroups::discover(home.path()).leftovers();
    assert_eq!(found, [Cgroup::reopen(group.paths()).unwrap()]);
    drop(found);
    let second = cgroups.create(7, &Limits::default()).unwrap().unwrap();
    assert!(second.paths()[0].ends_with("run-7.2"), "{second:?}");
    drop(second);
    group.kill();
    reap::reap(pid);
    eventually("the group is empty", || group.procs().is_empty());
    let path = group.paths()[0].clone();
    eventually("the group can be removed", || group.remove());
    drop((group, cgroups));
    assert!(!path.exists() && !path.parent().unwrap().exists(), "no folder is left");
}

#[test]
fn a_limit_is_set_or_refused_with_a_message() {
    let (_home, cgroups) = here();
    let cases: [(&str, Limits, &[&str]); 3] = [
        ("memory", Limits { memory: Some(64 << 20), ..Limits::default() }, &["67108864"]),
        ("cpu", Limits { cpu: Some(1500), ..Limits::default() }, &["150000 100000", "150000"]),
        ("pids", Limits { pids: Some(9), ..Limits::default() }, &["9"]),
    ];
    for (controller, limits, expected) in cases {
        if !cgroups.delegated(controller) && cgroups.separate(controller).is_none() {
            let refused = cgroups.create(1, &limits).unwrap_err().to_string();
            assert!(refused.contains(&format!("no `{controller}` cgroup controller")), "{refused}");
            continue;
        }
        let group = cgroups.create(1, &limits).unwrap().unwrap();
        let files = ["memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us", "pids.max"];
        let held = group.paths().iter().flat_map(|path| files.map(|file| path.join(file)));
        let held: Vec<_> = held.filter_map(|file| fs::read_to_string(file).ok()).collect();
        assert!(held.iter().any(|text| expected.contains(&text.trim())), "{controller}: {held:?}");
        assert_eq!(group.memory_limit(), limits.memory);
    }
}

#[test]
fn a_process_that_exceeds_the_memory_limit_is_killed_and_counted() {
    let (_home, cgroups) = here();
    let Ok(Some(group)) = cgroups.create(1, &Limits { memory: Some(24 << 20), ..Limits::default() }) else { return };
    assert_eq!(group.oom_kills(), 0);
    let pid = start("x=0123456789abcdef; while :; do x=$x$x; done", &group).pid;
    let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)));
    assert_eq!(group.oom_kills(), 1);
}

#[test]
fn a_fork_bomb_stays_below_its_limit_and_is_killed() {
    let (_home, cgroups) = here();
    let Ok(Some(group)) = cgroups.create(1, &Limits { pids: Some(12), ..Limits::default() }) else { return };
    // The shell gives up at the first refused fork; its children stay.
    let pid = start("while :; do sleep 300 & done", &group).pid;
    eventually("the bomb is at its limit", || group.procs().len() >= 11);
    assert!(group.procs().len() <= 12);
    group.kill();
    reap::reap(pid);
    eventually("the group is empty", || group.remove());
}

/// A folder with the files of a v2 group that holds these processes.
fn fake_group(procs: &str) -> (tempfile::TempDir, Tree) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    fs::write(folder.path().join("cgroup.procs"), procs).unwrap();
    let tree = Tree::new(folder.path(), "pmr-0").unwrap();
    (folder, tree)
}

#[test]
fn a_controller_is_enabled_in_every_group_above_the_runs() {
    let (folder, tree) = fake_group("");
    assert!(tree.has("memory") && !tree.has("mem") && !tree.has("io"));
    tree.enable("memory").unwrap();
    for group in ["", "pmr-0"] {
        let file = folder.path().join(group).join("cgroup.subtree_control");
        assert_eq!(fs::read_to_string(file).unwrap(), "+memory");
    }
}

#[test]
fn the_daemon_moves_to_an_inner_group_only_if_no_other_process_is_in_its_own() {
    let own = std::process::id();
    let (folder, tree) = fake_group(&format!("{own}\n"));
    assert!(tree.step_aside().unwrap());
    assert_eq!(fs::read_to_string(folder.path().join("pmr-0/daemon/cgroup.procs")).unwrap(), own.to_string());
    let (folder, tree) = fake_group(&format!("{own}\n1\n"));
    assert!(!tree.step_aside().unwrap());
    assert!(!folder.path().join("pmr-0/daemon").exists());
}

#[test]
fn a_daemon_inside_its_own_groups_uses_the_same_base_and_leaves_the_group_of_a_run() {
    let (folder, _) = fake_group("");
    for (within, left) in [("pmr-0/run-3/nested", true), ("pmr-0/daemon", false), ("other", false)] {
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        let place = folder.path().join(within);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("cgroup.procs"), "").unwrap();
        let tree = Tree::new(&place, "pmr-0").unwrap();
        let base = if within == "other" { place.join("pmr-0") } else { folder.path().join("pmr-0") };
        assert_eq!(tree.base, base);
        tree.leave_run(&place);
        let moved = fs::read_to_string(folder.path().join("cgroup.procs")).unwrap();
        assert_eq!(moved == "0", left, "{within}");
    }
}

#[test]
fn the_hash_has_the_published_values() {
    assert_eq!(fnv(b""), 0x811c_9dc5);
    assert_eq!(fnv(b"foobar"), 0xbf9c_f968);
}

#[test]
fn the_second_group_of_a_run_is_separate_and_usable_after_a_kill() {
    let (_home, cgroups) = here();
    let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
    let Some(beside) = cgroups.create_beside(7, &limits) else {
        return assert_ne!(cgroups.allowance().grouping, Hierarchy::V2);
    };
    let run = cgroups.create(7, &Limits::default()).unwrap().unwrap();
    assert!(beside.paths()[0].ends_with("run-7.check") && run.paths()[0].ends_with("run-7"));
    for _ in 0..2 {
        let pid = start("sleep 300 & wait", &beside).pid;
        eventually("two in the group", || beside.procs().len() == 2);
        assert!(!run.holds(&Membership::of(pid)) && beside.holds(&Membership::of(pid)) && run.procs().is_empty());
        beside.kill_each();
        reap::reap(pid);
        eventually("no process in the group", || beside.procs().is_empty());
    }
    assert!(beside.remove());
}
