//! A small web server that is a worker of a cluster: an example of [`crate::worker`]. The demo uses it, and so do tests
//! that need a clustered app.
//!
//! When it drains, each response has `Connection: close`. An idle connection is not closed at once, because a request
//! may be under way: it ends by the same time limit as at any other moment.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::cli::failure::{Doing, Failure};
use crate::cli::ui::Ui;
use crate::spec::DEFAULT_INSTANCE_VAR;
use crate::worker::{self, Listener, Stream};

/// First argument of a process that runs as a demo worker.
pub const PERSONALITY: &str = "__demo-worker";

/// A connection without a request for this time is closed.
const IDLE: Duration = Duration::from_secs(2);

/// Settings from the environment of a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `PORT`, on 127.0.0.1; 0: any, the same for all workers.
    pub port: u16,
    /// `NODE_APP_INSTANCE`: part of each answer.
    pub instance: String,
}

/// Serves until the worker must end: the daemon drains it, or SIGINT or SIGTERM comes.
///
/// # Errors
/// If the worker cannot start or listen.
pub fn run() -> Result<(), Failure> {
    let settings = Settings::of_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "starting the runtime".into())?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut interrupt = signal(SignalKind::interrupt()).doing(|| "handling SIGINT".into())?;
        let mut terminate = signal(SignalKind::terminate()).doing(|| "handling SIGTERM".into())?;
        tokio::select! {
            served = listen(&settings) => served,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

impl Settings {
    fn of_environment() -> Result<Settings, Failure> {
        let text = std::env::var("PORT").unwrap_or_else(|_| "0".to_owned());
        let port = text.parse().map_err(|_| Failure::new(format!("PORT is `{text}`, which is no port")))?;
        Ok(Settings { port, instance: std::env::var(DEFAULT_INSTANCE_VAR).unwrap_or_default() })
    }
}

async fn listen(settings: &Settings) -> Result<(), Failure> {
    let at = format!("127.0.0.1:{}", settings.port);
    let listener = worker::listener(&at).await.doing(|| format!("listening on {at}"))?;
    if let Ok(at) = listener.local_addr() {
        Ui::new(false, true).line(&format!("listening on {at}"));
    }
    serve(listener, settings, worker::draining()).await;
    Ok(())
}

/// Accepts connections until `finish` completes, then serves the open ones to their end.
///
/// Must run inside a `LocalSet`.
pub async fn serve(mut listener: Listener, settings: &Settings, finish: impl Future<Output = ()>) {
    let server = Server::new(settings);
    let mut finish = std::pin::pin!(finish);
    loop {
        tokio::select! {
            (stream, _) = listener.accept() => {
                tokio::task::spawn_local(serve_connection(stream, OpenConnection::count(Rc::clone(&server))));
            }
            () = &mut finish => break,
        }
    }
    drop(listener);
    server.closing.set(true);
    while !server.is_empty() {
        server.emptied.notified().await;
    }
}

/// State shared by the connections.
struct Server {
    body: Bytes,
    /// True if each response has `Connection: close`.
    closing: Cell<bool>,
    open: Cell<usize>,
    emptied: Notify,
}

impl Server {
    fn new(settings: &Settings) -> Rc<Server> {
        let body = json!({"pid": std::process::id(), "instance": settings.instance}).to_string().into();
        Rc::new(Server { body, closing: Cell::new(false), open: Cell::new(0), emptied: Notify::new() })
    }

    fn is_empty(&self) -> bool {
        self.open.get() == 0
    }

    fn answer(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.closing.get() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A connection, counted in `open` until it ends.
struct OpenConnection(Rc<Server>);

impl OpenConnection {
    fn count(server: Rc<Server>) -> OpenConnection {
        server.open.set(server.open.get() + 1);
        OpenConnection(server)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.is_empty() {
            self.0.emptied.notify_one();
        }
    }
}

/// Serves one connection to its end. Errors are visible to the client only.
async fn serve_connection(stream: Stream, connection: OpenConnection) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|_: Request<Incoming>| {
        let response = connection.0.answer();
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
