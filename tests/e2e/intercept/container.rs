//! pmr in a container with Docker's default profile, as a child of the container's first process.

use std::fs;
use std::process::{Child, Command};

use super::{PYTHON, answered_by, skip, there};
use crate::support::eventually::until;
use crate::support::{Home, app, eventually, example, http, pmr};

/// A container, with a script that runs commands inside and then waits.
struct Container {
    /// `unshare`, the parent of the container's first process.
    outside: Child,
    home: Home,
    ports: [u16; 4],
}

impl Container {
    /// Starts a container with these arguments of `container.py`. `None` where containers are not possible.
    fn start(words: &str) -> Option<Container> {
        let is_root = nix::unistd::Uid::effective().is_root();
        if !is_root || cfg!(not(target_arch = "x86_64")) || !there(PYTHON) || !there("/usr/bin/setpriv") {
            skip("no container: it takes root, x86-64, python3 and setpriv");
            return None;
        }
        let (home, port) = (Home::new(), http::free_port);
        let ports = [port(), port(), port(), port()];
        let [node, given, own, plain] = ports;
        let (pmr, python) = (pmr::BINARY, format!("--interpreter {PYTHON} -i 2 --listen-timeout 5s"));
        let script = format!(
            "echo $$ > first
            {pmr} doctor > doctor
            PORT={node} {pmr} start {} -n node -i 2 --listen-timeout 100s
            {pmr} start {} -n given -i 2 --wait-ready --listen-timeout 100s --listen tcp://127.0.0.1:{given}
            PORT={own} {pmr} start {} -n own {python}
            PORT={plain} {pmr} start {} -n plain {python} --no-autorestart
            {pmr} reload node && {pmr} reload given && {pmr} reload own && echo yes > reloaded
            {pmr} describe own > described
            echo > done
            until test -e go; do sleep 0.02; done
            {pmr} kill",
            example("node/http.js"),
            example("activated.py"),
            app("share/own.py"),
            app("share/threads.py"),
        );
        home.write("first.sh", &script);
        let mut unshare = Command::new("unshare");
        unshare.args(["--fork", "--pid", "--mount-proc", "--ipc", "--uts", PYTHON, &app("container.py")]);
        let said = fs::File::create(home.work().join("said")).expect("the folder is ours");
        unshare.args(words.split_whitespace()).args(["sh", "first.sh"]).env("PMR_HOME", home.root());
        unshare.current_dir(home.work()).stdout(said.try_clone().expect("a file can be shared")).stderr(said);
        let outside = unshare.spawn().expect("util-linux is there");
        let container = Container { outside, home, ports };
        until("the script is done", || container.home.work().join("done").exists());
        assert_eq!(container.read("first"), "1\n", "the first process is the shell");
        Some(container)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.home.work().join(name)).unwrap_or_default()
    }

    /// Waits until this number of processes shares each port.
    fn share(&self, counts: [usize; 4]) {
        for (port, count) in self.ports.into_iter().zip(counts) {
            eventually("as many answer", || answered_by(port, count));
        }
    }

    fn end(mut self) {
        self.home.write("go", "");
        assert!(self.outside.wait().expect("it is ours").success());
    }
}

#[test]
fn programs_with_reuseport_share_their_port_under_dockers_default_profile() {
    let Some(container) = Container::start("") else { return };
    container.share([2, 2, 2, 1]);
    assert_eq!(container.read("reloaded"), "yes\n");
    let why = "pidfd_getfd: Operation not permitted";
    assert!(container.read("doctor").contains(why), "{}", container.read("doctor"));
    assert!(
        container.read("described").contains(&format!("not possible here: {why}")),
        "{}",
        container.read("described")
    );
    let log = container.home.daemon_logged(why);
    assert_eq!(log.matches(&format!("cannot be intercepted here ({why}")).count(), 1, "{log}");
    container.end();
}

#[test]
fn all_programs_share_their_port_with_the_right_to_trace() {
    let Some(container) = Container::start("--ptrace") else { return };
    container.share([2, 2, 2, 2]);
    assert_eq!(container.read("reloaded"), "yes\n");
    let (doctor, described) = (container.read("doctor"), container.read("described"));
    assert!(doctor.contains("unmodified programs share their ports"), "{doctor}");
    assert!(described.contains("a queue each"), "{described}");
    container.end();
}
