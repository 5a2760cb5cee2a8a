//! Workers that listen and are not ready, and ejected ones: which workers get connections instead, and how the daemon
//! still connects to them.

use super::*;
use crate::os::net::reuseport;

/// A worker that serves, and one that listens and is not ready.
fn one_of_two(balancer: KernelBalancing) -> (Stage, Program, Program) {
    let mut stage = Stage::new(balancer);
    let serving = stage.worker(1);
    stage.queues.mark_not_ready(Run(2));
    let not_ready = stage.worker(2);
    (stage, serving, not_ready)
}

impl Stage {
    async fn connect_to(&self, run: Run) -> tokio::net::TcpStream {
        let direct = self.queues.connect_to(run, None).await.unwrap();
        assert_eq!(direct.at, self.address);
        self.wait_for(direct.connection.stream.local_addr().unwrap());
        direct.connection.stream
    }
}

#[test]
fn a_worker_that_is_not_ready_gets_no_connection_while_others_serve() {
    play(async {
        for balancer in BOTH {
            let (mut stage, serving, not_ready) = one_of_two(balancer);
            let _clients = stage.connect(30);
            assert_eq!((serving.accept().len(), not_ready.accept().len()), (30, 0), "{balancer:?}");
            // The next God keeps it out of rotation, too.
            stage = stage.restart_god().await;
            let _clients = stage.connect(30);
            assert_eq!((serving.accept().len(), not_ready.accept().len()), (30, 0), "{balancer:?}");
            stage.queues.admit(not_ready.run);
            let _clients = stage.connect(60);
            assert!(not_ready.accept().len() > 10, "{balancer:?}");
            stage.queues.gone(not_ready.run);
            assert!(stage.queues.state.borrow().not_ready.is_empty());
        }
    });
}

#[test]
fn the_daemon_connects_to_each_worker_alone() {
    play(async {
        for balancer in BOTH {
            let (mut stage, serving, not_ready) = one_of_two(balancer);
            for _ in 0..2 {
                let _probe = stage.connect_to(not_ready.run).await;
                assert_eq!((serving.accept().len(), not_ready.accept().len()), (0, 1), "{balancer:?}");
                let probes = [stage.connect_to(serving.run).await, stage.connect_to(serving.run).await];
                assert_eq!((serving.accept().len(), not_ready.accept().len()), (probes.len(), 0), "{balancer:?}");
                stage = stage.restart_god().await;
            }
            // God does not probe a worker that drains, but it could.
            stage.queues.exclude(serving.run);
            let _probe = stage.connect_to(serving.run).await;
            assert_eq!(serving.accept().len(), 1);
            assert!(matches!(stage.queues.connect_to(Run(9), None).await, Err(Unreachable::Nowhere)));
        }
    });
}

#[test]
fn a_worker_that_shares_its_queue_cannot_be_reached_alone() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        stage.queues.mark_not_ready(Run(1));
        let first = stage.worker(1);
        stage.queues.join(Run(2), 0);
        assert!(
            stage.queues.join_shared(Run(2), &stage.queues.keys()[0]).is_some(),
            "an unready worker shares the queue, too"
        );
        assert!(matches!(stage.queues.connect_to(first.run, None).await, Err(Unreachable::Shared)));
    });
}

#[test]
fn no_worker_can_be_reached_alone_where_the_kernels_hash_distributes() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::Hash);
        let worker = stage.worker(1);
        assert!(matches!(stage.queues.connect_to(worker.run, None).await, Err(Unreachable::ByHash)));
    });
}

#[test]
fn without_a_ready_worker_connections_wait_and_go_to_the_first_that_is_ready() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::RoundRobin);
        if !reuseport::can_migrate() {
            return;
        }
        [1, 2].iter().for_each(|run| stage.queues.mark_not_ready(Run(*run)));
        let (one, two) = (stage.worker(1), stage.worker(2));
        let clients = stage.connect(10);
        assert_eq!((one.accept().len(), two.accept().len()), (0, 0));
        let _probe = stage.connect_to(two.run).await;
        assert_eq!((one.accept().len(), two.accept().len()), (0, 1));
        stage = stage.restart_god().await;
        stage.queues.admit(two.run);
        assert_eq!((one.accept().len(), two.accept().len()), (0, clients.len()));
        // It dies with connections in its queue. They wait for the next ready worker, not for the next that listens.
        let _clients = stage.connect(7);
        stage.queues.gone(two.run);
        stage.queues.mark_not_ready(Run(3));
        assert!(stage.queues.inherit(Run(3), &stage.key()).is_none());
        let three = stage.worker(3);
        assert_eq!(three.accept().len(), 0);
        stage.queues.admit(three.run);
        assert_eq!((one.accept().len(), three.accept().len()), (0, 7));
    });
}

#[test]
fn where_the_kernel_cannot_move_connections_the_first_worker_gets_them_before_it_is_ready() {
    play(async {
        let mut stage = Stage::new(KernelBalancing::Random);
        [1, 2].iter().for_each(|run| stage.queues.mark_not_ready(Run(*run)));
        let (one, two) = (stage.worker(1), stage.worker(2));
        let _clients = stage.connect(10);
        assert_eq!((one.accept().len(), two.accept().len()), (10, 0));
        stage.queues.admit(two.run);
        let _clients = stage.connect(10);
        assert_eq!((one.accept().len(), two.accept().len()), (0, 10));
        // The next worker inherits what waits in the dead one's queue, since no other could ever take it.
        stage.queues.exclude(one.run);
        let _clients = stage.connect(4);
        stage.queues.gone(two.run);
        stage.queues.mark_not_ready(Run(3));
        assert_eq!(stage.successor(3).unwrap().accept().len(), 4);
    });
}

#[test]
fn an_ejected_worker_gets_no_connection_where_others_serve_and_all_where_none_does() {
    play(async {
        for balancer in BOTH {
            let mut stage = Stage::new(balancer);
            let (one, two) = (stage.worker(1), stage.worker(2));
            stage.queues.eject(one.run);
            for _ in 0..2 {
                let _clients = stage.connect(30);
                assert_eq!((one.accept().len(), two.accept().len()), (0, 30), "{balancer:?}");
                let _probe = stage.connect_to(one.run).await;
                assert_eq!((one.accept().len(), two.accept().len()), (1, 0), "{balancer:?}: it can be probed");
                stage = stage.restart_god().await;
            }
            stage.queues.exclude(two.run);
            let _clients = stage.connect(30);
            assert_eq!((one.accept().len(), two.accept().len()), (30, 0), "{balancer:?}");
            stage.queues.gone(two.run);
            let three = stage.worker(3);
            let _clients = stage.connect(30);
            assert_eq!((one.accept().len(), three.accept().len()), (0, 30), "{balancer:?}");
            stage.queues.admit(one.run);
            let _clients = stage.connect(60);
            assert!(one.accept().len() > 10, "{balancer:?}");
            stage.queues.eject(one.run);
            stage.queues.gone(one.run);
            assert!(stage.queues.state.borrow().ejected.is_empty());
        }
    });
}
