//! `pmr update`: over to another program, and back from one that is no good.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Town, Visitors, facts, is_unchanged};
use crate::support::{Home, app, copy_program, pmr, processes};

/// A town under load while its daemon is replaced.
struct Upheaval {
    town: Town,
    visitors: Visitors,
    before: super::Facts,
}

impl Upheaval {
    fn begin() -> Upheaval {
        let town = Town::new();
        let visitors = town.visitors();
        let before = town.facts();
        Upheaval { town, visitors, before }
    }

    /// Everybody is as before, and has lost nothing.
    #[track_caller]
    fn has_passed(&mut self) {
        self.town.logs_go_on();
        self.visitors.are_served();
        is_unchanged(&self.town.home, &self.before);
    }

    #[track_caller]
    fn end(mut self) {
        self.has_passed();
        self.visitors.leave_content();
    }
}

/// A copy of the program under test.
fn copy(home: &Home, name: &str) -> PathBuf {
    let path = home.work().join(name);
    copy_program(&pmr::binary(), &path);
    path
}

/// A program that answers questions as the one under test does, and does `keeps` when it is to be the keeper.
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
fn the_same_program_takes_over_and_a_copy_too() {
    let mut upheaval = Upheaval::begin();
    let home = &upheaval.town.home;
    let (keeper, god) = (home.daemon_pid(), home.god_pid());
    home.ok("update").says("4 processes ran on");
    assert!(home.daemon_pid() == keeper && home.god_pid() != god, "one pid for the whole life of a daemon");
    upheaval.has_passed();
    let home = &upheaval.town.home;
    let other = copy(home, "other");
    home.ok("update --check").says("can take over: 4 processes would run on");
    update(home, &other).ok().says("4 processes ran on");
    assert_eq!(program_of(home.god_pid()), other);
    upheaval.has_passed();
    upheaval.town.kill_god();
    assert_eq!(program_of(upheaval.town.home.god_pid()), other);
    upheaval.end();
}

#[test]
fn what_is_no_pmr_is_refused() {
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
fn a_program_that_dies_as_keeper_is_replaced_by_the_old_one() {
    let mut upheaval = Upheaval::begin();
    let home = &upheaval.town.home;
    let wrapper = compile(home, "return 3;");
    home.pmr(["update".as_ref(), "--check".as_ref(), wrapper.as_os_str()]).run().ok();
    update(home, &wrapper).code(1).complains("goes on, and no app was touched");
    assert_eq!(program_of(home.daemon_pid()), pmr::binary());
    upheaval.has_passed();
    let home = &upheaval.town.home;
    home.ok("update").says("4 processes ran on");
    upheaval.end();
}

#[test]
fn a_program_whose_god_dies_is_replaced_by_the_old_one() {
    let upheaval = Upheaval::begin();
    let home = &upheaval.town.home;
    let wrapper = compile(home, r#"setenv("FAILPOINTS", "trial=return", 1);"#);
    update(home, &wrapper).code(1).complains("(signal 9 (SIGKILL)) in its first seconds");
    assert_eq!(program_of(home.god_pid()), pmr::binary());
    upheaval.end();
}

#[test]
fn an_app_that_ends_while_the_daemon_is_replaced_is_restarted() {
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
    update.wait(crate::support::eventually::PATIENCE).ok();
    assert_eq!(home.replaced("a", &[pid])[0].restarts, 1);
}
