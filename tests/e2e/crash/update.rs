//! `pmr update`: to another program, and back from one that fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ClientLoads, Fixture, facts, is_unchanged};
use crate::support::{Home, app, copy_program, pmr, processes};

/// A fixture under load while its daemon is replaced.
struct UpdateUnderLoad {
    fixture: Fixture,
    loads: ClientLoads,
    before: super::Facts,
}

impl UpdateUnderLoad {
    fn begin() -> UpdateUnderLoad {
        let fixture = Fixture::new();
        let loads = fixture.loads();
        let before = fixture.facts();
        UpdateUnderLoad { fixture, loads, before }
    }

    /// Checks that no process has changed and no request or line was lost.
    #[track_caller]
    fn nothing_changed(&mut self) {
        self.fixture.logs_go_on();
        self.loads.are_served();
        is_unchanged(&self.fixture.home, &self.before);
    }

    #[track_caller]
    fn end(mut self) {
        self.nothing_changed();
        self.loads.leave_content();
    }
}

/// A copy of the program under test.
fn copy(home: &Home, name: &str) -> PathBuf {
    let path = home.work().join(name);
    copy_program(&pmr::binary(), &path);
    path
}

/// A program that behaves like the binary under test, but runs the statements `keeps` when it is started as the keeper.
fn compile(home: &Home, keeps: &str) -> PathBuf {
    let source = format!(
        r#"#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {{
    if (argc > 1 && strcmp(argv[1], "__daemon") == 0) {{ {keeps} }}
    execv("{}", argv);
    return 1;
}}
"#,
        pmr::BINARY
    );
    let (source, program) = (home.write("wrapper.c", &source), home.work().join("wrapper"));
    let output = Command::new("cc").arg("-o").arg(&program).arg(&source).output().expect("cc is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn program_of(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).expect("it lives")
}

fn update(home: &Home, program: &Path) -> pmr::Ran {
    home.pmr(["update".as_ref(), program.as_os_str()]).run()
}

#[test]
fn an_update_to_the_same_program_or_a_copy_changes_nothing_else() {
    let mut update_test = UpdateUnderLoad::begin();
    let home = &update_test.fixture.home;
    let (keeper, god) = (home.daemon_pid(), home.god_pid());
    home.ok("update").says("4 processes ran on");
    assert!(home.daemon_pid() == keeper && home.god_pid() != god, "one pid for the whole life of a daemon");
    update_test.nothing_changed();
    let home = &update_test.fixture.home;
    let other = copy(home, "other");
    home.ok("update --check").says("can take over: 4 processes would run on");
    update(home, &other).ok().says("4 processes ran on");
    assert_eq!(program_of(home.god_pid()), other);
    update_test.nothing_changed();
    update_test.fixture.kill_god();
    assert_eq!(program_of(update_test.fixture.home.god_pid()), other);
    update_test.end();
}

#[test]
fn an_update_to_another_program_than_pmr_is_refused() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("tell.sh")));
    let (before, god) = (facts(&home), home.god_pid());
    for (program, why) in [
        ("/bin/true", "it is no pmr that can take over"),
        ("/bin/false", "exit status: 1"),
        ("/nonexistent", "No such file"),
        ("/etc/passwd", "ermission denied"),
    ] {
        update(&home, Path::new(program)).refuses(why);
        home.pmr(["update", "--check", program]).run().refuses(why);
    }
    is_unchanged(&home, &before);
    assert_eq!(home.god_pid(), god);
}

#[test]
fn a_new_program_that_dies_as_keeper_is_rolled_back() {
    let mut update_test = UpdateUnderLoad::begin();
    let home = &update_test.fixture.home;
    let wrapper = compile(home, "return 3;");
    home.pmr(["update".as_ref(), "--check".as_ref(), wrapper.as_os_str()]).run().ok();
    update(home, &wrapper).code(1).complains("continues, and no app was touched");
    assert_eq!(program_of(home.daemon_pid()), pmr::binary());
    update_test.nothing_changed();
    let home = &update_test.fixture.home;
    home.ok("update").says("4 processes ran on");
    update_test.end();
}

#[test]
fn a_new_program_whose_god_dies_is_rolled_back() {
    let update_test = UpdateUnderLoad::begin();
    let home = &update_test.fixture.home;
    let wrapper = compile(home, r#"setenv("FAILPOINTS", "trial=return", 1);"#);
    update(home, &wrapper).code(1).complains("(signal 9 (SIGKILL)) in its first seconds");
    assert_eq!(program_of(home.god_pid()), pmr::binary());
    update_test.end();
}

#[test]
fn an_app_that_exits_during_an_update_is_restarted() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("tell.sh")));
    let pid = home.one("a").pid;
    let go = home.work().join("go");
    let slow = compile(&home, &format!("while (access(\"{}\", F_OK)) usleep(1000);", go.display()));
    let update = home.pmr(["update".as_ref(), slow.as_os_str()]).spawn();
    let keeper = home.daemon_pid();
    super::until("the new program has begun", || program_of(keeper) == slow);
    processes::signal(pid, nix::sys::signal::Signal::SIGKILL);
    home.write("go", "");
    update.wait(crate::support::eventually::WAIT_LIMIT).ok();
    assert_eq!(home.replaced("a", &[pid])[0].restarts, 1);
}
