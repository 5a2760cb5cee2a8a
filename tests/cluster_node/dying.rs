//! God dies many times while real Node workers serve: no request fails.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pmr::cluster::{Cluster, ClusterOptions, RecoveredCluster};
use pmr::keeper::{Place, Word, ledger};
use pmr::os::net::fdpass;

use super::*;

const GRACE: Duration = Duration::from_secs(100);

/// A copy of an open file, by its descriptor number.
fn copy(number: i32) -> OwnedFd {
    fdpass::inherited(u16::try_from(number).unwrap()).unwrap()
}

impl App {
    /// Replaces God by the next one, which gets copies of all files that the old one had open.
    fn next_god(&mut self) {
        let records = ledger::read(self.persistence.ledger.file().unwrap()).unwrap();
        let mut files: HashMap<String, OwnedFd> =
            ledger::kept(&records).map(|(name, id)| (name.to_owned(), copy(id.number))).collect();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let numbers: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        let shared_memory = &self.persistence.shared_memory;
        let placed = numbers.into_iter().filter_map(|number| Some((number, shared_memory.place(number)?)));
        let mut connections: Vec<(OwnedFd, Place)> = placed.map(|(number, place)| (copy(number), place)).collect();
        let mut rest = Vec::new();
        let recovered =
            RecoveredCluster { records: &records, files: &mut files, connections: &mut connections, rest: &mut rest };
        self.persistence = persistence(shared_memory.get(Word::Generation) + 1);
        let (sender, notices) = unbounded_channel();
        let options = ClusterOptions { balance: Balance::RoundRobin, ..ClusterOptions::default() };
        self.cluster = Cluster::recover(options, APP, self.persistence.clone(), sender, recovered).unwrap();
        self.notices = notices;
    }

    async fn die_often(&mut self, times: u32) {
        for time in 0..times {
            tokio::time::sleep(Duration::from_millis(u64::from(5 + time * 7 % 40))).await;
            self.next_god();
        }
    }

    /// A reload in which God dies five times during each drain.
    async fn replace_dying(&mut self, old: &mut Vec<Run>) {
        let new = self.spawn_listening(old.len()).await;
        for run in std::mem::replace(old, new) {
            for _ in 0..5 {
                self.cluster.drain(run, GRACE);
                tokio::time::sleep(Duration::from_millis(7)).await;
                self.next_god();
            }
            self.cluster.drain(run, GRACE);
            self.wait_for(Notice::Drained { run }).await;
            self.kill(run);
        }
    }
}

async fn die_under(kind: &'static str, app: &str) {
    let mut app = App::new(app, &[]);
    let mut runs = app.spawn_listening(2).await;
    let load = Load::on(app.at(0), kind);
    app.all_are_served(&runs).await;
    app.die_often(60).await;
    for _ in 0..2 {
        app.replace_dying(&mut runs).await;
        app.all_are_served(&runs).await;
    }
    app.die_often(20).await;
    let result = load.finish().await;
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["good"].as_u64().unwrap() > 20, "{result}");
    assert!(result["workers"].as_object().unwrap().len() >= 4, "{result}");
}

#[test]
fn no_request_on_a_new_connection_fails_while_god_dies() {
    play(die_under("new", "web.cjs"));
}

#[test]
fn no_request_on_a_keep_alive_connection_fails_while_god_dies() {
    play(die_under("keep", "web.cjs"));
}

#[test]
fn the_next_god_finds_the_worker_and_its_messages() {
    play(async {
        let mut app = App::new("web.cjs", &[]);
        let run = app.spawn();
        for _ in 0..50 {
            app.next_god();
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        while !matches!(app.notice().await, Notice::Listening { run: from, .. } if from == run) {}
        assert!(!app.get().await.is_empty());
    });
}

/// Prints the daemon's processor time for 10,000 new connections. Run by hand, with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_connection() {
    play(async {
        let mut app = App::new("web.cjs", &[]);
        let runs = app.spawn_listening(2).await;
        let load = Load::on(app.at(0), "new");
        let taken = |app: &App| runs.iter().map(|run| app.cluster.connections(*run)).sum::<u64>();
        let (from, before) = (taken(&app), spent());
        while taken(&app) < from + 10_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (count, cost) = (taken(&app) - from, spent() - before);
        let result = load.finish().await;
        let of_10_000 = cost * 10_000 / count as u32;
        writeln!(std::io::stderr(), "{of_10_000:?} for 10,000 connections; {result}").unwrap();
    });
}

/// Processor time of this process.
fn spent() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .sum()
}
