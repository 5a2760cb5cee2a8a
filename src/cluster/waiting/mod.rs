//! Connections that wait where no worker serves, and how they are rejected when they have waited for too long.
//!
//! They wait in the kernel's queue; since when is kept in [`arrivals`]. Once a worker serves, the queue is not watched
//! any more, so connections reach the worker without the daemon.

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

/// Rejects a connection as the app is configured: with an answer, or without. Never waits.
pub(crate) fn reject(connection: impl AsFd, how: Shed) {
    let answer = match how {
        Shed::Answer => UNAVAILABLE,
        Shed::Close => b"",
    };
    connection::dismiss(connection, answer);
}

/// Rejects the connections of one accept queue that wait too long while no worker serves there.
#[derive(Debug, Default)]
pub(crate) struct Shedder {
    /// The connections that wait, as the task last saw them.
    arrivals: Arrivals,
    /// Runs while no worker serves, by this rule.
    task: Option<(QueueRule, AbortOnDropHandle<()>)>,
}

impl Shedder {
    /// With the connections that the previous daemon knew of. Not started yet.
    pub(crate) fn adopt(arrivals: Arrivals) -> Shedder {
        Shedder { arrivals, task: None }
    }

    /// The connections that wait, to be saved.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Sets what the task has seen.
    pub(crate) fn set_arrivals(&mut self, arrivals: Arrivals) {
        self.arrivals = arrivals;
    }

    /// No worker serves here from now on. `save` is called with the arrivals whenever they must be saved.
    pub(crate) fn start(&mut self, queue: impl AsFd, rule: QueueRule, save: impl Fn(Arrivals) + 'static) {
        if self.task.as_ref().is_some_and(|(known, task)| *known == rule && !task.is_finished()) {
            return;
        }
        self.task = None;
        let Some(timeout) = rule.timeout else { return };
        match queue.as_fd().try_clone_to_owned().and_then(watch) {
            Ok(queue) => {
                let task = shed_expired(queue, timeout, rule.shed, self.arrivals.clone(), save);
                self.task = Some((rule, AbortOnDropHandle::new(tokio::task::spawn_local(task))));
            }
            Err(error) => tracing::warn!(%error, "connections that wait too long are not rejected"),
        }
    }

    /// A worker serves here, or connections may wait for ever.
    pub(crate) fn stop(&mut self) {
        *self = Shedder::default();
    }
}

async fn shed_expired(
    queue: AsyncFd<OwnedFd>,
    timeout: Duration,
    how: Shed,
    mut arrivals: Arrivals,
    save: impl Fn(Arrivals),
) {
    loop {
        let now = clock::monotonic_ms();
        let changed = arrivals.update(diag::waiting(&queue).unwrap_or(0), timeout, now);
        let expired = arrivals.take_expired(timeout, now);
        for _ in 0..expired {
            match accept_at_once(&queue) {
                Ok(connection) => reject(&connection, how),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => tracing::debug!(%error, "a connection that waits too long cannot be rejected"),
            }
        }
        if changed || expired > 0 {
            save(arrivals.clone());
        }
        let next = async {
            match arrivals.next_expiry(timeout, now) {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = queue.readable() => match ready {
                // The socket was shut down: no connection waits here any more.
                Ok(ready) if ready.ready().is_read_closed() => return,
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            },
            () = next => {}
        }
    }
}

/// All that a client reads until its connection is closed.
#[cfg(test)]
pub(crate) async fn read_to_end(mut client: impl io::Read + Send + 'static) -> String {
    let text = tokio::task::spawn_blocking(move || io::read_to_string(&mut client).unwrap());
    text.await.unwrap()
}
