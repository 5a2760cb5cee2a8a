//! Who is turned away, and who is not.

use super::*;
use crate::cluster::waiting::{Arrivals, read_to_end};
use crate::spec::{QueueRule, Shed};

fn after(timeout: Duration, shed: Shed) -> QueueRule {
    QueueRule { timeout: Some(timeout), shed, ..QueueRule::default() }
}

const FAST_PERIOD: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn who_waits_too_long_where_nobody_serves_is_turned_away() {
    play(async {
        for balancer in BOTH {
            for (how, begin) in [(Shed::Answer, "HTTP/1.1 503 "), (Shed::Close, "")] {
                let mut stage = Stage::new(balancer);
                stage.queues.set_rule(after(FAST_PERIOD, how));
                let one = stage.worker(1);
                stage.queues.gone(one.run);
                drop(one);
                let mut clients = stage.connect(3);
                clients.extend(stage.connect(2));
                for client in clients {
                    let words = read_to_end(client).await;
                    assert!(words.starts_with(begin) && words.is_empty() == begin.is_empty(), "{how:?}: {words}");
                }
            }
        }
    });
}

#[test]
fn who_has_time_left_is_for_the_next_worker() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        let one = stage.worker(1);
        stage.queues.gone(one.run);
        let _clients = stage.connect(3);
        tokio::time::sleep(FAST_PERIOD * 2).await;
        let heir = stage.heir(2).unwrap();
        stage.listen(&heir);
        assert_eq!(heir.accept().len(), 3);
        // Where somebody serves, however slowly, nobody is turned away.
        stage.queues.set_rule(after(FAST_PERIOD, Shed::Answer));
        let _clients = stage.connect(3);
        tokio::time::sleep(FAST_PERIOD * 4).await;
        assert_eq!(heir.accept().len(), 3);
    });
}

#[test]
fn the_rule_may_change_while_somebody_waits_and_god_may_die() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        let one = stage.worker(1);
        stage.queues.gone(one.run);
        drop(one);
        let mut clients = stage.connect(2);
        let stage = stage.reborn().await;
        tokio::time::sleep(FAST_PERIOD).await;
        assert_eq!(stage.queues.waiting(), 2);
        stage.queues.set_rule(after(FAST_PERIOD, Shed::Answer));
        assert!(read_to_end(clients.remove(0)).await.starts_with("HTTP/1.1 503 "));
        assert!(read_to_end(clients.remove(0)).await.starts_with("HTTP/1.1 503 "));
        assert_eq!(stage.queues.waiting(), 0);
    });
}

#[test]
fn the_time_of_who_waits_goes_on_whatever_number_of_gods_die() {
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
            // None of them lives long enough to see it wait for its time.
            while !client.is_finished() {
                tokio::time::sleep(TIMEOUT / 10).await;
                stage = stage.reborn().await;
                stage.queues.set_rule(after(TIMEOUT, Shed::Answer));
            }
            assert!(client.await.unwrap().starts_with("HTTP/1.1 503 ") && start.elapsed() >= TIMEOUT - TIMEOUT / 10);
        }
    });
}

#[test]
fn where_somebody_has_served_meanwhile_the_time_begins_anew() {
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
        let heir = stage.heir(2).unwrap();
        stage.listen(&heir);
        assert_eq!(arrivals(&stage), [Arrivals::default()]);
        let stage = stage.reborn().await;
        stage.queues.set_rule(after(NEVER, Shed::Answer));
        assert_eq!(arrivals(&stage), [Arrivals::default()]);
    });
}
