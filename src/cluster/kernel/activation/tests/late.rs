//! `queue_timeout` at a Unix path.

use std::os::unix::net::UnixStream;

use super::*;
use crate::cluster::waiting::read_to_end;
use crate::spec::{QueueRule, Shed};

/// An app that listens on a Unix path, in a folder that is removed when the guard is dropped.
fn at_path() -> (Stage, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let mut stage = Stage::new(None);
    stage.wanted.listen = vec![format!("unix://{}", path.display()).parse().unwrap()];
    (stage, path, folder)
}

fn after(timeout: Duration) -> QueueRule {
    QueueRule { timeout: Some(timeout), shed: Shed::Answer, ..QueueRule::default() }
}

#[test]
fn a_connection_that_waits_too_long_at_a_path_is_rejected_though_many_gods_die() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    play(async {
        let (mut stage, path, _folder) = at_path();
        stage.activation.set_rule(after(TIMEOUT));
        stage.activation.open(&stage.wanted).unwrap();
        let start = std::time::Instant::now();
        let client = tokio::task::spawn_local(read_to_end(UnixStream::connect(&path).unwrap()));
        while !client.is_finished() {
            tokio::time::sleep(TIMEOUT / 10).await;
            stage = stage.restart_god().await;
            stage.activation.set_rule(after(TIMEOUT));
        }
        assert!(client.await.unwrap().starts_with("HTTP/1.1 503 ") && start.elapsed() >= TIMEOUT - TIMEOUT / 10);
    });
}

#[test]
fn no_connection_is_rejected_at_a_path_where_a_worker_serves() {
    const SHORT: Duration = Duration::from_millis(50);
    play(async {
        let (stage, path, _folder) = at_path();
        stage.activation.set_rule(after(SHORT));
        let _sockets = stage.activation.sockets(Run(1), &stage.wanted).unwrap();
        stage.activation.join(Run(1), crate::os::process::identity::pid(), true);
        stage.activation.ready(Run(1));
        let client = tokio::task::spawn_local(read_to_end(UnixStream::connect(&path).unwrap()));
        tokio::time::sleep(SHORT * 4).await;
        assert!(!client.is_finished());
        stage.activation.exclude(Run(1));
        assert!(client.await.unwrap().starts_with("HTTP/1.1 503 "));
    });
}
