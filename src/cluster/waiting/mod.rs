//! Clients that wait where no worker serves, and how they are turned away when they have waited for too long.
//!
//! They wait in the kernel's queue: see [`arrivals`]. Once a worker serves nobody looks any more, so the way of a
//! connection to a worker stays free of us.

pub(crate) mod arrivals;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::arrivals::Arrivals;
use crate::os::clock;
use crate::os::net::socket::{accept_at_once, watch};
use crate::os::net::{connection, diag};
use crate::spec::{QueueRule, Shed};

/// The plainest answer that browsers, proxies and load balancers understand (RFC 9110, 15.6.4).
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: text/plain\r\nContent-Length: 32\r\n\r\nNo worker is free, please retry.";

/// Says what the app's owner wants said, if anything, and no more. Never waits.
pub(crate) fn turn_away(connection: impl AsFd, how: Shed) {
    let words = match how {
        Shed::Answer => UNAVAILABLE,
        Shed::Close => b"",
    };
    connection::dismiss(connection, words);
}

/// One queue's: who waits there while nobody serves, and the task that turns away who has waited for too long.
#[derive(Debug, Default)]
pub(crate) struct Shedder {
    arrivals: Arrivals,
    task: Option<(QueueRule, AbortOnDropHandle<()>)>,
}

impl Shedder {
    /// Goes on with those another God knew of, when it is told to.
    pub(crate) fn adopt(arrivals: Arrivals) -> Shedder {
        Shedder { arrivals, task: None }
    }

    /// Who waits, to be written down.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// What the task has found.
    pub(crate) fn set_arrivals(&mut self, arrivals: Arrivals) {
        self.arrivals = arrivals;
    }

    /// Nobody serves here. `keep` is told whenever there is something to be written down.
    pub(crate) fn watch(&mut self, queue: impl AsFd, rule: QueueRule, keep: impl Fn(Arrivals) + 'static) {
        if self.task.as_ref().is_some_and(|(known, task)| *known == rule && !task.is_finished()) {
            return;
        }
        self.task = None;
        let Some(timeout) = rule.timeout else { return };
        match queue.as_fd().try_clone_to_owned().and_then(watch) {
            Ok(queue) => {
                let task = turn_late_away(queue, timeout, rule.shed, self.arrivals.clone(), keep);
                self.task = Some((rule, AbortOnDropHandle::new(tokio::task::spawn_local(task))));
            }
            Err(error) => tracing::warn!(%error, "nobody is turned away who waits too long"),
        }
    }

    /// Somebody serves here, or nobody is ever turned away.
    pub(crate) fn rest(&mut self) {
        *self = Shedder::default();
    }
}

async fn turn_late_away(
    queue: AsyncFd<OwnedFd>,
    timeout: Duration,
    how: Shed,
    mut arrivals: Arrivals,
    keep: impl Fn(Arrivals),
) {
    loop {
        let now = clock::monotonic_ms();
        let news = arrivals.count(diag::waiting(&queue).unwrap_or(0), timeout, now);
        let late = arrivals.take_late(timeout, now);
        for _ in 0..late {
            match accept_at_once(&queue) {
                Ok(connection) => turn_away(&connection, how),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => tracing::debug!(%error, "who waits too long cannot be turned away"),
            }
        }
        if news || late > 0 {
            keep(arrivals.clone());
        }
        let next = async {
            match arrivals.next_late(timeout, now) {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = queue.readable() => match ready {
                // It was shut down: nobody waits here any more.
                Ok(ready) if ready.ready().is_read_closed() => return,
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            },
            () = next => {}
        }
    }
}

/// All that a client hears until it is let go.
#[cfg(test)]
pub(crate) async fn told(mut client: impl io::Read + Send + 'static) -> String {
    let heard = tokio::task::spawn_blocking(move || io::read_to_string(&mut client).unwrap());
    heard.await.unwrap()
}
