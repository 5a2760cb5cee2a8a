//! The wall clock jumps, and nothing that waits, counts or measures depends on it.
//!
//! The clock of the machine is left alone. The daemon runs with a library that adds an offset from a file to the wall
//! clock of the C library.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{counter_goes_on, no_line_is_missing, start_counter};
use crate::support::eventually::until;
use crate::support::{Home, app};

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && clock == CLOCK_REALTIME) {
        FILE *file = fopen(OFFSET, "r");
        long seconds = 0;
        if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
        at->tv_sec += seconds;
    }
    return result;
}
"#;

/// A home whose daemon sees the wall clock with the offset.
struct SkewedHome {
    home: Home,
    library: PathBuf,
    offset: PathBuf,
}

impl SkewedHome {
    fn new() -> SkewedHome {
        let home = Home::new();
        let source = home.write("clock.c", LIBRARY);
        let (library, offset) = (home.work().join("clock.so"), home.work().join("offset"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(format!("-DOFFSET=\"{}\"", offset.display())).arg(source);
        assert!(cc.status().expect("a C compiler is installed").success());
        SkewedHome { home, library, offset }
    }

    fn start(&self, words: &[&str]) {
        let words = std::iter::once("start").chain(words.iter().copied());
        self.home.pmr(words).env("LD_PRELOAD", &self.library).run().ok();
    }

    fn jump_to(&self, seconds: i64) {
        fs::write(&self.offset, seconds.to_string()).unwrap();
    }
}

#[test]
fn a_jump_of_the_wall_clock_changes_no_timer() {
    const DAY: i64 = 24 * 60 * 60;
    let skewed = SkewedHome::new();
    let home = &skewed.home;
    skewed.start(&[&app("tell.sh"), "-n", "first"]);
    let pid = start_counter(home);
    let dated = |log: String| log.lines().last().and_then(|line| line.get(..10)).unwrap_or_default().to_owned();
    let today = dated(home.log("../pmr.log"));
    for jump in [DAY, -2 * DAY, 0] {
        skewed.jump_to(jump);
        // A timer during the jump: a restart with a delay of one second takes a second, whatever the clock says.
        let name = format!("late{jump}");
        let begun = Instant::now();
        skewed.start(&[&app("tell.sh"), "-n", &name, "--restart-delay", "1s"]);
        crate::support::processes::signal(home.one(&name).pid, nix::sys::signal::Signal::SIGKILL);
        home.when(&name, "started again", |rows| rows[0].online() && rows[0].restarts == 1);
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?} at {jump}");
        until("the daemon sees the jump", || (dated(home.log("../pmr.log")) == today) == (jump == 0));
        counter_goes_on(home);
        home.ok("restart first");
        home.ok("list").says("first");
        assert_eq!(home.one("count").pid, pid);
    }
    no_line_is_missing(&home.log("count-out.log"));
}
