//! `balance: sticky`: each client keeps its worker while workers start and leave, and after the death of God.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::os::net::reuseport::Deal;

/// How many client addresses connect: 127.0.0.1 and those after it.
const CLIENTS: u8 = 60;

/// This many workers. The one with instance number n is run 10 n + 10.
fn sticky(best_balancing: KernelBalancing, count: u32) -> (Stage, Vec<Program>) {
    let mut stage = Stage::new(best_balancing);
    stage.queues.set_deal(Deal::ByAddress);
    let workers = (0..count).map(|instance| stage.numbered(u64::from(instance) * 10 + 10, instance)).collect();
    (stage, workers)
}

impl Stage {
    fn numbered(&mut self, run: u64, instance: u32) -> Program {
        self.queues.set_instance(Run(run), instance);
        self.worker(run)
    }

    /// Which of these workers gets the connection of each client.
    fn map(&self, workers: &[&Program]) -> Vec<Run> {
        (1..=CLIENTS)
            .map(|last| {
                let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
                let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
                bind(&socket, &from).unwrap();
                rustix::net::connect(&socket, &self.address).unwrap();
                self.wait_for(SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap());
                let by: Vec<Run> =
                    workers.iter().filter(|worker| worker.accept().len() == 1).map(|worker| worker.run).collect();
                assert_eq!(by.len(), 1, "{last}: {by:?}");
                by[0]
            })
            .collect()
    }
}

fn every(workers: &[Program]) -> Vec<&Program> {
    workers.iter().collect()
}

#[test]
fn a_successor_inherits_the_clients_of_its_number_and_those_of_an_excluded_worker_spread() {
    play(async {
        for balancer in BOTH {
            let (mut stage, workers) = sticky(balancer, 4);
            let before = stage.map(&every(&workers));
            assert_eq!(stage.map(&every(&workers)), before, "{balancer:?}");
            let successor = stage.numbered(31, 2);
            let all: Vec<&Program> = workers.iter().chain([&successor]).collect();
            let inherited: Vec<Run> =
                before.iter().map(|run| if *run == workers[2].run { successor.run } else { *run }).collect();
            assert_eq!(stage.map(&all), inherited, "the newer worker has them while both are there");
            stage.queues.exclude(workers[2].run);
            stage.queues.gone(workers[2].run);
            assert_eq!(stage.map(&all), inherited);
            stage.queues.exclude(workers[0].run);
            let spread = stage.map(&all);
            let is_excluded = |run: &Run| *run == workers[0].run;
            assert!(!spread.iter().any(is_excluded));
            for (now, before) in spread.iter().zip(&inherited).filter(|(_, before)| !is_excluded(before)) {
                assert_eq!(now, before, "all other clients keep their worker");
            }
        }
    });
}

#[test]
fn a_single_worker_gets_all_clients_though_a_vacant_queue_is_beside_it() {
    play(async {
        for balancer in BOTH {
            let (mut stage, workers) = sticky(balancer, 1);
            stage.queues.exclude(workers[0].run);
            // These wait in the placeholder, and are moved if the kernel can.
            let waiting = stage.connect(5);
            let next = stage.numbered(11, 0);
            let moved = next.accept().len();
            assert_eq!(moved, if balancer == KernelBalancing::RoundRobin { 5 } else { 0 });
            assert!(stage.map(&[&next]).iter().all(|run| *run == next.run));
            drop(waiting);
        }
    });
}

#[test]
fn clients_keep_their_workers_after_the_death_of_god() {
    play(async {
        for balancer in BOTH {
            let (stage, workers) = sticky(balancer, 4);
            let before = stage.map(&every(&workers));
            let stage = stage.restart_god().await;
            assert_eq!(stage.map(&every(&workers)), before, "{balancer:?}");
            let mechanism = stage.queues.listeners()[0].mechanism.clone();
            assert!(mechanism.contains("by client address"), "{mechanism}");
            stage.queues.set_deal(Deal::Each);
            assert!(!stage.queues.listeners()[0].mechanism.contains("by client address"));
            let stage = stage.restart_god().await;
            assert!(
                !stage.queues.listeners()[0].mechanism.contains("by client address"),
                "the change is recorded, too"
            );
            stage.queues.set_deal(Deal::ByAddress);
            assert_eq!(stage.map(&every(&workers)), before);
        }
    });
}

#[test]
fn the_listener_says_that_clients_change_workers_where_the_kernels_hash_distributes() {
    play(async {
        let (stage, _workers) = sticky(KernelBalancing::Hash, 2);
        let shown = &stage.queues.listeners()[0];
        assert_eq!(shown.mechanism, "a queue each, by the kernel's hash");
        assert!(shown.why.as_ref().is_some_and(|why| why.contains("no client keeps its worker")), "{shown:?}");
    });
}
