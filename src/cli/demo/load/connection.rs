//! One connection of a client, and the outcome of a request on it.

use std::io::ErrorKind;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, HeaderMap};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::report::Loss;

/// Finds the name of the worker in the body of its response; `None` if it is not there.
pub type WorkerOf = fn(&[u8]) -> Option<String>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Moves the bytes for `sender`.
    _driver: AbortOnDropHandle<()>,
    /// The pid of the worker that answered on it, once it has.
    pub(super) worker: Option<String>,
}

/// The outcome of a request.
pub(super) enum Outcome {
    /// A complete response with status 200.
    Answered(Connection, State),
    /// No such response.
    Lost(Loss),
}

/// Whether a connection can be used for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It can, unless the server has closed it meanwhile.
    Open,
    /// The server announced `Connection: close`.
    Closing,
}

impl Connection {
    /// Connects. The caller must limit the time.
    pub(super) async fn open(at: SocketAddr) -> Result<Connection, Loss> {
        let stream = TcpStream::connect(at).await.map_err(|error| match error.kind() {
            ErrorKind::ConnectionReset => Loss::Reset,
            ErrorKind::TimedOut => Loss::Hung,
            _ => Loss::Refused,
        })?;
        // A failure only makes the connection slower.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Loss::Reset)?;
        // Errors are reported to the request they belong to.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        Ok(Connection { sender, _driver: driver, worker: None })
    }

    /// True if the server has closed the connection while no request was under way.
    pub(super) async fn is_closed(&mut self) -> bool {
        // Lets the driver read what came while this thread did not run.
        tokio::task::yield_now().await;
        self.sender.ready().await.is_err()
    }

    /// Sends a request and reads the whole response.
    pub(super) async fn request(mut self, at: SocketAddr, keep: bool, worker_of: WorkerOf) -> Outcome {
        let mut request = Request::builder().uri("/").header(HOST, at.to_string());
        if !keep {
            request = request.header(CONNECTION, "close");
        }
        let request = request.body(Empty::new()).expect("the parts are valid");
        let (head, body) = match self.sender.send_request(request).await {
            Ok(response) => response.into_parts(),
            Err(error) if error.is_parse() => return Outcome::Lost(Loss::Bad),
            Err(_) => return Outcome::Lost(Loss::Reset),
        };
        let Ok(body) = body.collect().await else { return Outcome::Lost(Loss::Truncated) };
        if head.status != StatusCode::OK {
            return Outcome::Lost(Loss::Bad);
        }
        self.worker = worker_of(&body.to_bytes());
        let ends = head.version == Version::HTTP_10 || announces_close(&head.headers);
        Outcome::Answered(self, if ends { State::Closing } else { State::Open })
    }
}

fn announces_close(headers: &HeaderMap) -> bool {
    let words = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}
