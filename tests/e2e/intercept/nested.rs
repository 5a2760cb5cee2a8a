//! pmr inside pmr: an app of the outer daemon starts the inner one and leaves it behind.

use std::fs;
use std::path::PathBuf;

use super::{PYTHON, answered_by, possible, there};
use crate::support::eventually::until;
use crate::support::{Home, app, eventually, example, http, pmr, processes};

/// The inner home, the ports of its apps, and the outer home.
struct Nest {
    inner: PathBuf,
    ports: Ports,
    outer: Home,
}

/// One port for each way to share.
struct Ports {
    /// Node's own protocol.
    node: u16,
    /// Socket activation.
    given: u16,
    /// `SO_REUSEPORT` set by the program itself.
    own: u16,
    /// Bind interception of an unmodified program.
    plain: u16,
}

impl Nest {
    /// Starts an app of the outer pmr with these words, which starts the inner pmr and its apps. `None` where binds
    /// cannot be intercepted at all.
    fn build(words: &str) -> Option<Nest> {
        let outer = Home::new();
        if !there(PYTHON) || !possible(&outer) {
            return None;
        }
        let inner = outer.scratch().join("inner");
        let port = http::free_port;
        let ports = Ports { node: port(), given: port(), own: port(), plain: port() };
        let (pmr, python) = (pmr::BINARY, format!("--interpreter {PYTHON} -i 2 --listen-timeout 5s"));
        let script = format!(
            "export PMR_HOME={}
            PORT={} {pmr} start {} -n node -i 2 --listen-timeout 100s
            {pmr} start {} -n given -i 2 --wait-ready --listen-timeout 100s --listen tcp://127.0.0.1:{}
            PORT={} {pmr} start {} -n own {python}
            PORT={} {pmr} start {} -n plain {python} --no-autorestart
            echo all are started
            exec sleep 1000",
            inner.display(),
            ports.node,
            example("node/http.js"),
            example("activated.py"),
            ports.given,
            ports.own,
            app("share/own.py"),
            ports.plain,
            app("share/threads.py"),
        );
        outer.write("nest.sh", &script);
        outer.ok(&format!("start nest.sh -n nest --listen-timeout 100s {words}"));
        until("the inner apps were started", || {
            fs::read_dir(outer.root().join("logs"))
                .unwrap()
                .flatten()
                .any(|file| fs::read_to_string(file.path()).is_ok_and(|log| log.contains("all are started")))
        });
        Some(Nest { inner, ports, outer })
    }

    /// Runs a command of the inner pmr, and returns its output.
    fn ask(&self, line: &str) -> String {
        let words = line.split_whitespace().map(Into::into).collect();
        pmr::Pmr::new(&pmr::binary(), &self.inner, self.outer.work(), words).run().ok().out
    }

    /// Waits until two processes answer at a port.
    fn two_share(&self, port: u16) {
        eventually("two answer", || answered_by(port, 2));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.inner.join("pmr.log")).expect("the inner daemon has a log")
    }

    /// Deletes the outer app, without telling the inner pmr.
    fn take_down(self) {
        self.outer.ok("delete nest");
        until("nothing of the inner home is left", || processes::of_home(&self.inner).is_empty());
    }
}

#[test]
fn a_pmr_inside_a_cluster_worker_shares_what_it_can() {
    let Some(nest) = Nest::build("-i 1") else { return };
    nest.two_share(nest.ports.node);
    nest.two_share(nest.ports.given);
    nest.two_share(nest.ports.own);
    // The second worker finds the port in use.
    eventually("one answers", || answered_by(nest.ports.plain, 1));
    assert!(nest.ask("describe own").contains("not possible here: another supervisor above"));
    nest.ask("reload node");
    nest.ask("reload given");
    nest.two_share(nest.ports.node);
    nest.two_share(nest.ports.given);
    let why = "cannot be intercepted here (another supervisor above this one watches binds already";
    eventually("it is said once", || match nest.log() {
        log if log.matches(why).count() == 1 => Ok(()),
        log => Err(log),
    });
    nest.take_down();
}

#[test]
fn a_pmr_inside_a_fork_mode_app_intercepts_binds() {
    let Some(nest) = Nest::build("--exec-mode fork") else { return };
    for port in [nest.ports.node, nest.ports.given, nest.ports.own, nest.ports.plain] {
        nest.two_share(port);
    }
    assert!(nest.ask("describe plain").contains("a queue each"));
    nest.ask("reload plain");
    nest.two_share(nest.ports.plain);
    assert!(!nest.log().contains("cannot be taken over"), "{}", nest.log());
    nest.take_down();
}
