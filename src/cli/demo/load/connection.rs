//! One connection of a client, and what can become of a request on it.

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

/// Finds in the body of an answer the name of the worker that sent it; `None` where it is not named.
pub type WorkerOf = fn(&[u8]) -> Option<String>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Moves the bytes for `sender`.
    _driver: AbortOnDropHandle<()>,
    /// The pid of the worker that answered on it, once it has.
    pub(super) worker: Option<String>,
}

/// What became of a request.
pub(super) enum Outcome {
    /// A complete response with status 200 came.
    Answered(Connection, State),
    /// None came.
    Lost(Loss),
}

/// Whether a connection takes another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does, as far as is known.
    Open,
    /// The server announced that it closes it.
    Closing,
}

impl Connection {
    /// Connects. Waiting for it must be limited by the caller.
    pub(super) async fn open(at: SocketAddr) -> Result<Connection, Loss> {
        let stream = TcpStream::connect(at).await.map_err(|error| match error.kind() {
            ErrorKind::ConnectionReset => Loss::Reset,
            ErrorKind::TimedOut => Loss::Hung,
            _ => Loss::Refused,
        })?;
        // Only makes it slower if it fails.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Loss::Reset)?;
        // Errors reach the request they belong to.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        Ok(Connection { sender, _driver: driver, worker: None })
    }

    /// True if the server has closed it while nothing was asked.
    pub(super) async fn is_closed(&mut self) -> bool {
        // What came while this thread was not let run is read before that is asked.
        tokio::task::yield_now().await;
        self.sender.ready().await.is_err()
    }

    /// Sends a request and reads the whole response.
    pub(super) async fn ask(mut self, at: SocketAddr, keep: bool, worker_of: WorkerOf) -> Outcome {
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
        let ends = head.version == Version::HTTP_10 || says_close(&head.headers);
        Outcome::Answered(self, if ends { State::Closing } else { State::Open })
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let words = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"))
}
