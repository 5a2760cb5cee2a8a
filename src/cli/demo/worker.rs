//! A small web server that is a worker of a cluster: what [`crate::worker`] is for, at work. The demo runs on it, and so do
//! tests that want a clustered app and nothing else.
//!
//! Told to finish, it says `Connection: close` with each response. A connection on which nothing comes is not closed at
//! once, since a request may be on its way: it ends by the same time limit as at any other moment.

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

/// First argument of a process that is to be a worker.
pub const PERSONALITY: &str = "__demo-worker";

/// A connection on which no request comes for so long is closed.
const IDLE: Duration = Duration::from_secs(2);

/// What the environment of a worker says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `PORT`, on 127.0.0.1; 0: any, the same for all workers.
    pub port: u16,
    /// `NODE_APP_INSTANCE`: part of each answer.
    pub instance: String,
}

/// Serves until the worker is to leave: the daemon drains it, or SIGINT or SIGTERM comes.
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

/// Serves until told to finish, and then what is left.
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

/// What the connections share.
struct Server {
    body: Bytes,
    /// Each response says that its connection ends.
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

/// A connection; counted until it ends.
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

/// Serves one connection to its end. The client sees what goes wrong with it.
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
