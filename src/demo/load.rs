//! Load on a web server from clients that hide nothing: each request is answered in full, or counted as lost.
//!
//! Two kinds of clients, because reloads hurt them in different ways: those that keep a connection and send one request
//! after the other on it, and those that open a connection for each request. None of them tries a request again.
//!
//! A kept connection that the server closes without a word before the response to a request on it begins is a lost
//! request. If the last response said `Connection: close`, the client opens another, as every client does. If the
//! server closes it while no request is on its way, nothing is lost; that is counted apart ([`Counts::closed_idle`]).

mod connection;
mod tally;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::connection::{Connection, Outcome, State};
pub use self::tally::{Counts, Loss, Lost, Tally};

/// Tells from a response who answered.
pub type WhoAnswered = fn(&HeaderMap, &[u8]) -> Option<String>;

/// A client that lost a request waits this long, so that a dead server is not asked a million times a second.
const BREATH: Duration = Duration::from_millis(5);

/// How much load, of which kind.
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
    /// Who answered.
    pub worker: WhoAnswered,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { keep_alive: 8, fresh: 8, think: Duration::ZERO, limit: Duration::from_secs(5), worker: pid_in_body }
    }
}

/// The number `pid` of a JSON object.
#[must_use]
pub fn pid_in_body(_headers: &HeaderMap, body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Body {
        pid: u32,
    }
    serde_json::from_slice::<Body>(body).ok().map(|body| body.pid.to_string())
}

/// The header `x-worker`, or `x-pid`.
#[must_use]
pub fn worker_in_header(headers: &HeaderMap, _body: &[u8]) -> Option<String> {
    let value = headers.get("x-worker").or_else(|| headers.get("x-pid"))?;
    value.to_str().ok().map(str::to_owned)
}

/// Load that is on until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the clients on a thread of their own. They ask for `/`.
    ///
    /// # Errors
    /// If the thread or its runtime cannot be made.
    pub fn start(at: SocketAddr, plan: Plan) -> io::Result<Load> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::clone(&tally);
        let all = async move {
            let mut clients = JoinSet::new();
            for number in 0..plan.keep_alive + plan.fresh {
                let keeps = number < plan.keep_alive;
                let client = Client { at, plan, keeps, tally: Arc::clone(&shared), stopped: stopped.clone() };
                clients.spawn(client.run());
            }
            clients.join_all().await;
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || runtime.block_on(all))?;
        Ok(Load { tally, stop, thread: Some(thread) })
    }

    /// What came of it so far. Requests on their way are in a later tally.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Sends no more requests, waits for those on their way, and tells what came of it all. Blocks for as long as
    /// [`Plan::limit`] at most.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the load is ours to show, not to hide behind a good tally.
            thread.join().expect("the clients do not panic");
        }
        self.tally()
    }

    /// Load for a while.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub fn run_for(at: SocketAddr, plan: Plan, time: Duration) -> io::Result<Tally> {
        let load = Load::start(at, plan)?;
        std::thread::sleep(time);
        Ok(load.stop())
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    // Every change is one that leaves it whole.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client.
struct Client {
    at: SocketAddr,
    plan: Plan,
    keeps: bool,
    tally: Arc<Mutex<Tally>>,
    stopped: watch::Receiver<bool>,
}

impl Client {
    async fn run(mut self) {
        let mut kept: Option<Connection> = None;
        while !*self.stopped.borrow() && self.stopped.has_changed().is_ok() {
            let lost = self.once(&mut kept).await;
            let pause = if lost { self.plan.think.max(BREATH) } else { self.plan.think };
            if !pause.is_zero() {
                // Ends early when the load is stopped.
                let _ = tokio::time::timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await;
            }
        }
    }

    /// One request. True if it was lost.
    async fn once(&self, kept: &mut Option<Connection>) -> bool {
        // From here on nothing that comes is known before the answer.
        let sent = Instant::now();
        let mut old = kept.take();
        if let Some(connection) = &mut old
            && connection.is_closed().await
        {
            lock(&self.tally).of(self.keeps).closed_idle += 1;
            old = None;
        }
        // Who gets the request, as far as that is known before the answer.
        let worker = old.as_ref().and_then(|connection| connection.worker.clone());
        let outcome = match tokio::time::timeout(self.plan.limit, self.ask(old)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Lost(Loss::Hung),
        };
        let mut tally = lock(&self.tally);
        match outcome {
            Outcome::Answered(connection, state) => {
                tally.answered(self.keeps, connection.worker.as_deref());
                *kept = (self.keeps && state == State::Open).then_some(connection);
                false
            }
            Outcome::Lost(loss) => {
                tally.lost(self.keeps, Lost { loss, worker, sent, noticed: Instant::now() });
                true
            }
        }
    }

    async fn ask(&self, old: Option<Connection>) -> Outcome {
        let connection = match old {
            Some(connection) => connection,
            None => match Connection::open(self.at).await {
                Ok(connection) => connection,
                Err(loss) => return Outcome::Lost(loss),
            },
        };
        connection.ask(self.at, self.keeps, self.plan.worker).await
    }
}
