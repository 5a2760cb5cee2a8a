//! Load on a web server. Each request is answered in full, or counted as lost.
//!
//! There are two kinds of clients, because reloads affect them in different ways: those that keep a connection and send
//! one request after the other on it, and those that open a connection for each request. No client repeats a request.
//!
//! If the server closes a kept connection without notice before the response to a request on it begins, the request is
//! lost. If the last response said `Connection: close`, the client opens another connection, as every client does. If
//! the server closes the connection while no request is under way, nothing is lost; that is counted separately
//! ([`Counts::closed_idle`]).

mod connection;
mod report;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::connection::WorkerOf;
use self::connection::{Connection, Outcome, State};
pub use self::report::{Counts, LoadReport, Loss, LostRequest};

/// Pause of a client after a lost request, so that a dead server does not get a million requests a second.
const LOSS_PAUSE: Duration = Duration::from_millis(5);

/// Amount and kind of the load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Clients that keep their connection.
    pub keep_alive: usize,
    /// Clients that open a connection for each request.
    pub fresh: usize,
    /// Pause of each client between an answer and its next request.
    pub think: Duration,
    /// A request that takes longer, connecting included, has hung.
    pub limit: Duration,
    /// Finds the worker in a response.
    pub worker: WorkerOf,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { keep_alive: 8, fresh: 8, think: Duration::ZERO, limit: Duration::from_secs(5), worker: pid_in_body }
    }
}

/// The number `pid` of a JSON object.
fn pid_in_body(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        pid: u32,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| body.pid.to_string())
}

/// Load that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    report: Arc<Mutex<LoadReport>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the clients on a thread of their own. They request `/`.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be made.
    pub fn start(at: SocketAddr, plan: Plan) -> io::Result<Load> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let report = Arc::new(Mutex::new(LoadReport::default()));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::clone(&report);
        let all = async move {
            let mut clients = JoinSet::new();
            for number in 0..plan.keep_alive + plan.fresh {
                let keeps = number < plan.keep_alive;
                let client = Client { at, plan, keeps, report: Arc::clone(&shared), stopped: stopped.clone() };
                clients.spawn(client.run());
            }
            clients.join_all().await;
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || runtime.block_on(all))?;
        Ok(Load { report, stop, thread: Some(thread) })
    }

    /// The report so far. Requests under way are in a later report.
    #[must_use]
    pub fn report(&self) -> LoadReport {
        lock(&self.report).clone()
    }

    /// Stops the clients, waits for requests under way, and returns the final report. Blocks for [`Plan::limit`] at
    /// most.
    #[must_use]
    pub fn stop(mut self) -> LoadReport {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of a client must not be hidden by a good report.
            thread.join().expect("the clients do not panic");
        }
        self.report()
    }
}

fn lock(report: &Mutex<LoadReport>) -> MutexGuard<'_, LoadReport> {
    // Every change leaves the report consistent, also if the thread panics afterwards.
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client.
struct Client {
    at: SocketAddr,
    plan: Plan,
    keeps: bool,
    report: Arc<Mutex<LoadReport>>,
    stopped: watch::Receiver<bool>,
}

impl Client {
    async fn run(mut self) {
        let mut kept: Option<Connection> = None;
        while !*self.stopped.borrow() && self.stopped.has_changed().is_ok() {
            let lost = self.once(&mut kept).await;
            let pause = if lost { self.plan.think.max(LOSS_PAUSE) } else { self.plan.think };
            if !pause.is_zero() {
                // Ends early when the load is stopped.
                let _ = tokio::time::timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await;
            }
        }
    }

    /// Sends one request. Returns true if it was lost.
    async fn once(&self, kept: &mut Option<Connection>) -> bool {
        // From here on, the client sees an action of the server only in the response.
        let sent = Instant::now();
        let mut old = kept.take();
        if let Some(connection) = &mut old
            && connection.is_closed().await
        {
            lock(&self.report).of(self.keeps).closed_idle += 1;
            old = None;
        }
        // The worker that gets the request, if it is known before the response.
        let worker = old.as_ref().and_then(|connection| connection.worker.clone());
        let outcome = match tokio::time::timeout(self.plan.limit, self.request(old)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Lost(Loss::Hung),
        };
        let mut report = lock(&self.report);
        match outcome {
            Outcome::Answered(connection, state) => {
                report.answered(self.keeps, connection.worker.as_deref());
                *kept = (self.keeps && state == State::Open).then_some(connection);
                false
            }
            Outcome::Lost(loss) => {
                report.lost(self.keeps, LostRequest { loss, worker, sent, noticed: Instant::now() });
                true
            }
        }
    }

    async fn request(&self, old: Option<Connection>) -> Outcome {
        let connection = match old {
            Some(connection) => connection,
            None => match Connection::open(self.at).await {
                Ok(connection) => connection,
                Err(loss) => return Outcome::Lost(loss),
            },
        };
        connection.request(self.at, self.keeps, self.plan.worker).await
    }
}
