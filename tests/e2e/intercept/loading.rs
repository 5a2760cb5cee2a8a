//! Programs that listen before they can serve: no client is given to them, and those that never come to serve replace
//! nothing.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{Fixture, PYTHON, possible, there};
use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::listing::pids;
use crate::support::{Home, app, http, processes};

struct Loading(Fixture);

impl Loading {
    /// Two workers that have loaded. `None` where binds cannot be intercepted.
    fn new() -> Option<Loading> {
        let (home, port) = (Home::new(), http::free_port());
        if !there(PYTHON) || !possible(&home) {
            return None;
        }
        let loading = Loading(Fixture { home, port });
        fs::write(loading.file("go"), "").unwrap();
        loading.0.start(&format!("{} --interpreter {PYTHON} -i 2", app("share/loading.py")));
        Some(loading)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.home.work().join(name)
    }

    /// From now on what starts does not come to an end with loading.
    fn stall(&self) {
        fs::remove_file(self.file("go")).unwrap();
    }

    fn go(&self) {
        fs::write(self.file("go"), "").unwrap();
    }

    /// Waits until this number of processes that are not among `before` listen.
    fn listen(&self, count: usize, before: &[i32]) {
        until("the new workers listen", || {
            let names = fs::read_dir(self.0.home.work()).unwrap().map(|entry| entry.unwrap().file_name());
            let pids = names.filter_map(|name| name.to_str()?.strip_prefix("listens-")?.parse::<i32>().ok());
            pids.filter(|pid| !before.contains(pid)).count() >= count
        });
    }

    /// Checks that these processes answer, and no others.
    fn served_by(&self, pids: &[i32]) {
        let spread = self.0.spread(20 * pids.len());
        assert!(spread.len() == pids.len() && spread.keys().all(|pid| pids.contains(pid)), "{spread:?}, not {pids:?}");
    }
}

#[test]
fn the_old_workers_serve_until_their_successors_have_loaded() {
    let Some(loading) = Loading::new() else { return };
    let home = &loading.0.home;
    let before = pids(&loading.0.online(2));
    loading.served_by(&before);
    loading.stall();
    let reload = home.pmr(["reload", "it"]).spawn();
    loading.listen(2, &before);
    loading.served_by(&before);
    loading.go();
    reload.wait(WAIT_LIMIT).ok();
    let after = pids(&loading.0.online(2));
    assert!(after.iter().all(|pid| !before.contains(pid)));
    loading.served_by(&after);
}

#[test]
fn a_release_that_fails_while_it_loads_replaces_nothing() {
    let Some(loading) = Loading::new() else { return };
    let before = pids(&loading.0.online(2));
    loading.stall();
    let reload = loading.0.home.pmr(["reload", "it"]).spawn();
    loading.listen(2, &before);
    fs::write(loading.file("broken"), "").unwrap();
    reload.wait(WAIT_LIMIT).refuses("exited with code 1 before it was ready").complains("the load failed");
    assert_eq!(pids(&loading.0.online(2)), before);
    loading.served_by(&before);
}

#[test]
fn workers_that_are_added_get_clients_when_they_have_loaded() {
    let Some(loading) = Loading::new() else { return };
    let before = pids(&loading.0.online(2));
    loading.stall();
    let scale = loading.0.home.pmr(["scale", "it", "4"]).spawn();
    loading.listen(2, &before);
    loading.served_by(&before);
    loading.go();
    scale.wait(WAIT_LIMIT).ok();
    loading.served_by(&pids(&loading.0.online(4)));
}

#[test]
fn a_killed_worker_leaves_its_clients_to_the_others_until_its_successor_has_loaded() {
    let Some(loading) = Loading::new() else { return };
    let before = pids(&loading.0.online(2));
    loading.stall();
    processes::signal(before[0], Signal::SIGKILL);
    loading.listen(1, &before);
    loading.served_by(&before[1..]);
    // The next daemon knows what has not loaded yet, too.
    processes::signal(loading.0.home.god_pid(), Signal::SIGKILL);
    loading.0.home.sync();
    loading.served_by(&before[1..]);
    loading.go();
    loading.served_by(&pids(&loading.0.online(2)));
}
