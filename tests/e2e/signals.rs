//! `sendSignal`: names and numbers of signals, and errors.

use crate::support::{Home, app};

#[test]
fn a_signal_of_any_name_reaches_the_app() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("usr.sh")));
    home.ok(&format!("start {} -n b", app("usr.sh")));
    home.logged("a-out.log", "listening");
    home.logged("b-out.log", "listening");
    for (count, line) in ["sendSignal SIGUSR1 a b", "sendSignal usr1 all", "signal 10 0 1"].into_iter().enumerate() {
        home.ok(line).says("[a](0) ✓").says("[b](1) ✓");
        let wanted = "got USR1\n".repeat(count + 1);
        home.logged("a-out.log", &wanted);
        home.logged("b-out.log", &wanted);
    }
    assert_eq!(home.one("a").restarts, 0);
    home.ok("sendSignal HUP a");
    home.logged("a-out.log", "got HUP");
}

#[test]
fn a_signal_that_cannot_be_sent_is_an_error() {
    let home = Home::new();
    home.ok(&format!("start {}", app("usr.sh")));
    home.run("sendSignal SIGNOPE usr").refuses("`SIGNOPE` is no signal");
    home.run("sendSignal 99 usr").refuses("there is no signal 99");
    home.run("sendSignal USR1").refuses("required");
    home.run("sendSignal USR1 nosuch").refuses("no process or namespace matches");
    home.ok("stop usr");
    let ran = home.run("sendSignal USR1 usr");
    assert_eq!(ran.code, Some(1), "{}", ran.transcript());
    assert!(ran.err.contains("not running"), "{}", ran.transcript());
}
