//! `queue_timeout`: which waiting connections are rejected, and which are not.

use super::*;
use crate::cluster::waiting::{Arrivals, read_to_end};
use crate::spec::{QueueRule, Shed};

fn after(timeout: Duration, shed: Shed) -> QueueRule {
    QueueRule { timeout: Some(timeout), shed, ..QueueRule::default() }
}

const SHORT: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn a_connection_that_waits_too_long_where_no_worker_serves_is_rejected() {
    play(async {
        for balancer in BOTH {
            for (how, begin) in [(Shed::Answer, "HTTP/1.1 503 "), (Shed::Close, "")] {
                let mut stage = Stage::new(balancer);
                stage.queues.set_rule(after(SHORT, how));
                let one = stage.worker(1);
                stage.queues.gone(one.run);
                drop(one);
                let mut clients = stage.connect(3);
                clients.extend(stage.connect(2));
                for client in clients {
                    let text = read_to_end(client).await;
                    assert!(text.starts_with(begin) && text.is_empty() == begin.is_empty(), "{how:?}: {text}");
                }
            }
        }
    });
}

#[test]
fn the_next_worker_inherits_connections_that_have_time_left() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        let one = stage.worker(1);
        stage.queues.gone(one.run);
        let _clients = stage.connect(3);
        tokio::time::sleep(SHORT * 2).await;
        let next = stage.successor(2).unwrap();
        stage.listen(&next);
        assert_eq!(next.accept().len(), 3);
        // Where a worker serves, however slowly, no connection is rejected.
        stage.queues.set_rule(after(SHORT, Shed::Answer));
        let _clients = stage.connect(3);
        tokio::time::sleep(SHORT * 4).await;
        assert_eq!(next.accept().len(), 3);
    });
}

#[test]
fn the_timeout_may_change_while_connections_wait_and_after_the_death_of_god() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        let one = stage.worker(1);
        stage.queues.gone(one.run);
        drop(one);
        let mut clients = stage.connect(2);
        let stage = stage.restart_god().await;
        tokio::time::sleep(SHORT).await;
        assert_eq!(stage.queues.waiting(), 2);
        stage.queues.set_rule(after(SHORT, Shed::Answer));
        assert!(read_to_end(clients.remove(0)).await.starts_with("HTTP/1.1 503 "));
        assert!(read_to_end(clients.remove(0)).await.starts_with("HTTP/1.1 503 "));
        assert_eq!(stage.queues.waiting(), 0);
    });
}

#[test]
fn the_time_of_a_waiting_connection_goes_on_over_the_deaths_of_many_gods() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            stage.queues.set_rule(after(TIMEOUT, Shed::Answer));
            let one = stage.worker(1);
            stage.queues.gone(one.run);
            drop(one);
            let start = std::time::Instant::now();
            let client = tokio::task::spawn_local(read_to_end(stage.connect(1).remove(0)));
            // No God lives as long as the timeout.
            while !client.is_finished() {
                tokio::time::sleep(TIMEOUT / 10).await;
                stage = stage.restart_god().await;
                stage.queues.set_rule(after(TIMEOUT, Shed::Answer));
            }
            assert!(client.await.unwrap().starts_with("HTTP/1.1 503 ") && start.elapsed() >= TIMEOUT - TIMEOUT / 10);
        }
    });
}

#[test]
fn arrival_times_are_forgotten_when_a_worker_serves() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        let one = stage.worker(1);
        stage.queues.gone(one.run);
        drop(one);
        let arrivals = |stage: &Stage| {
            let state = stage.queues.state.borrow();
            state.queues.iter().map(|queue| queue.shedder.arrivals().clone()).collect::<Vec<_>>()
        };
        let _clients = stage.connect(2);
        while arrivals(&stage) == [Arrivals::default()] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let next = stage.successor(2).unwrap();
        stage.listen(&next);
        assert_eq!(arrivals(&stage), [Arrivals::default()]);
        let stage = stage.restart_god().await;
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        assert_eq!(arrivals(&stage), [Arrivals::default()]);
    });
}
