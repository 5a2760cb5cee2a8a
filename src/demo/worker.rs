//! A small web server that is a worker of a cluster: in Rust what a Node app is in JavaScript.
//!
//! It speaks the worker's side of Node's cluster protocol on its IPC channel, so pmr cannot tell it from a Node worker:
//! it asks to listen, gets its connections one by one over the channel, and leaves when it is told to. The demo runs on
//! it, and so do tests that want a clustered app and no Node.
//!
//! ```text
//! serving ──drain──► draining ──connections gone──► drained ──┐
//!    └───────────────────┴───────────disconnect───────────────┴─► leaving ──connections gone──► exit
//! ```
//!
//! From `drain` on each response says `Connection: close`. A connection on which nothing comes is not closed at once,
//! since a request may be on its way: it ends by the same time limit as at any other moment.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::channel::{Channel, FromPrimary};
use crate::cli::failure::{Doing, Failure};
use crate::cli::ui::Ui;
use crate::os::fdpass;
use crate::spec::DEFAULT_INSTANCE_VAR;

/// First argument of a process that is to be a worker.
pub const PERSONALITY: &str = "__demo-worker";

/// A connection on which no request comes for so long is closed.
const IDLE: Duration = Duration::from_secs(2);

/// What a worker is told by its environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `PORT`, on 127.0.0.1; 0: any, the same for all workers.
    pub port: u16,
    /// `NODE_APP_INSTANCE`: part of each answer.
    pub instance: String,
}

/// Is a worker until told to leave, by the channel or by SIGINT or SIGTERM.
#[must_use]
pub fn run() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => crate::cli::fail(&failure),
    }
}

fn start() -> Result<(), Failure> {
    let settings = Settings::of_environment()?;
    let channel = inherited_channel()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "starting the runtime".into())?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut interrupt = signal(SignalKind::interrupt()).doing(|| "handling SIGINT".into())?;
        let mut terminate = signal(SignalKind::terminate()).doing(|| "handling SIGTERM".into())?;
        tokio::select! {
            served = serve(channel, settings) => served,
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

/// The channel pmr started us with.
fn inherited_channel() -> Result<OwnedFd, Failure> {
    let variable = |name| std::env::var(name).ok();
    let number = variable("NODE_CHANNEL_FD").filter(|_| variable("NODE_UNIQUE_ID").is_some());
    let number = number.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Failure::new("this is a worker of a cluster: it is started by `pmr`, not by hand").hint("try `pmr demo`")
    })?;
    fdpass::inherited(number).doing(|| format!("taking over channel {number}"))
}

/// Serves over this channel until told to leave, or until the channel ends: then nobody is there to serve for.
///
/// Must run inside a `LocalSet`.
///
/// # Errors
/// If the channel fails, or the primary cannot listen for us.
pub async fn serve(channel: OwnedFd, settings: Settings) -> Result<(), Failure> {
    let channel = Channel::new(channel).doing(|| "watching the channel".into())?;
    let worker = Worker { channel, seq: 0, asked: 0, key: None, stage: Stage::Serving, door: Door::new(&settings) };
    worker.live(settings.port).await.doing(|| "serving".into())
}

/// How far along its way out the worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining,
    Drained,
    Leaving,
}

struct Worker {
    channel: Channel,
    /// Of our next message.
    seq: u64,
    /// `seq` of the question to listen.
    asked: u64,
    /// Our listener, while it is open.
    key: Option<String>,
    stage: Stage,
    door: Rc<Door>,
}

impl Worker {
    async fn live(mut self, port: u16) -> io::Result<()> {
        self.say(json!({"cmd": "NODE_PMR", "act": "hello", "version": concat!("pmr ", env!("CARGO_PKG_VERSION"))}));
        self.say_cluster("online", json!({}));
        self.asked = self.say_cluster("queryServer", address(port));
        let door = Rc::clone(&self.door);
        while !(self.stage == Stage::Leaving && door.is_empty()) {
            tokio::select! {
                heard = self.channel.next() => match heard? {
                    Some(message) => self.heard(message)?,
                    None => return Ok(()),
                },
                () = door.emptied.notified() => {}
            }
            if self.stage == Stage::Draining && door.is_empty() {
                self.say(json!({"cmd": "NODE_PMR", "act": "drained"}));
                self.stage = Stage::Drained;
            }
        }
        self.channel.flush().await
    }

    fn heard(&mut self, message: FromPrimary) -> io::Result<()> {
        match message {
            FromPrimary::Answer { ack, errno: Some(errno), .. } if ack == self.asked => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            FromPrimary::Answer { ack, errno: None, key, port } if ack == self.asked => self.listens(key, port),
            FromPrimary::Answer { .. } | FromPrimary::Other => {}
            FromPrimary::Connection { key, seq, socket } => self.offered(&key, seq, socket),
            FromPrimary::NoHandle { missing: true } => self.say(json!({"cmd": "NODE_HANDLE_NACK"})),
            FromPrimary::NoHandle { missing: false } => self.say(json!({"cmd": "NODE_HANDLE_ACK"})),
            FromPrimary::Drain if self.stage == Stage::Serving => self.drain(),
            FromPrimary::Drain => {}
            FromPrimary::Disconnect => self.leave(),
        }
        Ok(())
    }

    fn listens(&mut self, key: String, port: Option<u16>) {
        self.key = Some(key);
        let port = port.unwrap_or_default();
        self.say_cluster("listening", address(port));
        Ui::new(false, true).line(&format!("listening on 127.0.0.1:{port}"));
    }

    fn offered(&mut self, key: &str, seq: u64, socket: OwnedFd) {
        let wanted = self.key.as_deref() == Some(key);
        self.say(json!({"cmd": "NODE_HANDLE_ACK"}));
        let number = self.number();
        self.say(json!({"cmd": "NODE_CLUSTER", "ack": seq, "accepted": wanted, "seq": number}));
        if wanted {
            tokio::task::spawn_local(converse(socket, Guest::enter(Rc::clone(&self.door))));
        }
    }

    fn drain(&mut self) {
        self.stage = Stage::Draining;
        self.door.closing.set(true);
    }

    fn leave(&mut self) {
        self.drain();
        self.stage = Stage::Leaving;
        if let Some(key) = self.key.take() {
            self.say_cluster("close", json!({"key": key}));
        }
    }

    fn say_cluster(&mut self, act: &str, mut message: Value) -> u64 {
        let seq = self.number();
        message["cmd"] = "NODE_CLUSTER".into();
        message["act"] = act.into();
        message["seq"] = seq.into();
        self.say(message);
        seq
    }

    #[allow(clippy::needless_pass_by_value, reason = "a message is made to be said")]
    fn say(&mut self, message: Value) {
        self.channel.say(&message);
    }

    fn number(&mut self) -> u64 {
        self.seq += 1;
        self.seq - 1
    }
}

/// What a worker says about where it listens.
fn address(port: u16) -> Value {
    let address = Ipv4Addr::LOCALHOST.to_string();
    json!({"index": 0, "data": null, "address": address, "port": port, "addressType": 4, "flags": 0, "backlog": 511})
}

/// What the connections share.
struct Door {
    body: Bytes,
    /// Each response shall be the last of its connection.
    closing: Cell<bool>,
    open: Cell<usize>,
    emptied: Notify,
}

impl Door {
    fn new(settings: &Settings) -> Rc<Door> {
        let body = json!({"pid": std::process::id(), "instance": settings.instance}).to_string().into();
        Rc::new(Door { body, closing: Cell::new(false), open: Cell::new(0), emptied: Notify::new() })
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

/// A connection within the house; counted until it ends.
struct Guest(Rc<Door>);

impl Guest {
    fn enter(door: Rc<Door>) -> Guest {
        door.open.set(door.open.get() + 1);
        Guest(door)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.is_empty() {
            self.0.emptied.notify_one();
        }
    }
}

/// Serves one connection to its end. What goes wrong with it is the client's affair.
async fn converse(socket: OwnedFd, guest: Guest) {
    let socket = std::net::TcpStream::from(socket);
    let Ok(stream) = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)) else { return };
    let _ = stream.set_nodelay(true);
    let service = service_fn(|_: Request<Incoming>| {
        let response = guest.0.answer();
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
