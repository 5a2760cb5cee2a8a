//! What is found, where the machine can be arranged so.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::os::seccomp::ability::Obstacle;

#[test]
fn a_home_that_others_can_read_is_told_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let finding = filesystem::home(home.path());
    assert_eq!(finding.health, Health::Limited, "{finding:?}");
    assert!(finding.advice.unwrap().starts_with("chmod 700 "));
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(filesystem::home(home.path()).health, Health::Good);
}

#[test]
fn a_home_that_is_not_there_yet_is_no_fault_and_one_that_cannot_be_made_is() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(filesystem::home(&folder.path().join("a/b")).health, Health::Good);
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(filesystem::home(&folder.path().join("file/home")).health, Health::Missing);
}

#[test]
fn nothing_that_pmr_needs_is_missing_where_its_tests_run() {
    for finding in [kernel::balancer(), kernel::socket_figures(), kernel::queue_length(), kernel::file_limit()] {
        assert_ne!(finding.health, Health::Missing, "{finding:?}");
        assert_eq!(finding.advice.is_some(), finding.health != Health::Good, "{finding:?}");
    }
}

#[test]
fn who_forbids_takeover_is_told_apart() {
    let advice = |yama| kernel::advice(&Obstacle { call: "pidfd_getfd".to_owned(), errno: 1, yama });
    assert!(advice(None).starts_with("in a container allow"));
    assert!(advice(Some(2)).starts_with("sysctl -w kernel.yama.ptrace_scope=1, or run the daemon as root"));
    assert!(advice(Some(3)).contains("takes a reboot"));
}

#[test]
fn only_programs_that_are_there_are_named() {
    assert_eq!(filesystem::programs("/nowhere"), None);
}
