//! One check: a connection, and for HTTP one request; or a command. HTTP is small and our own, since a status line is all
//! there is to read.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exec::Exec;
use crate::cluster::{Cluster, Unreachable};
use crate::protocol::Run;
use crate::supervisor::Fault;

/// More of an answer is not read.
const LONGEST_ANSWER: u64 = 64 << 10;

/// What a check came to, if not that all is well.
#[derive(Debug)]
pub(super) enum Trouble {
    /// This is wrong, in a few words.
    Fault(Fault),
    /// It could not be asked, which says nothing about it.
    Unasked,
}

impl From<Unreachable> for Trouble {
    fn from(why: Unreachable) -> Trouble {
        match why {
            Unreachable::NotNow => Trouble::Unasked,
            Unreachable::Nowhere => Trouble::Fault(Fault::Own(why.to_string())),
            // It may well serve all the same.
            Unreachable::Shared | Unreachable::Elsewhere | Unreachable::ByHash | Unreachable::Failed(_) => {
                Trouble::Fault(Fault::Unattributed(why.to_string()))
            }
        }
    }
}

/// What a run is asked again and again.
pub(super) enum Question {
    /// Whether somebody listens there.
    Tcp { address: String },
    /// A request to this address.
    Http { address: String, path: String },
    /// A request over a connection of its own.
    Own { cluster: Option<Cluster>, run: Run, path: String },
    /// A command.
    Exec(Box<Exec>),
}

impl Question {
    /// Asks a run how it is, and waits so long for an answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn ask(&mut self, limit: Duration) -> Result<(), Trouble> {
        if let Ok(answer) = tokio::time::timeout(limit, self.answer()).await {
            return answer;
        }
        let limit = limit.as_millis();
        Err(Trouble::Fault(match self {
            Question::Tcp { .. } | Question::Http { .. } => Fault::Unattributed(format!("no answer in {limit} ms")),
            Question::Own { .. } => Fault::Own(format!("no answer in {limit} ms")),
            Question::Exec(exec) => Fault::Unattributed(format!("`{}` did not end in {limit} ms", exec.name())),
        }))
    }

    async fn answer(&mut self) -> Result<(), Trouble> {
        let of_somebody = |fault| Trouble::Fault(Fault::Unattributed(fault));
        match self {
            Question::Tcp { address } => connect(address).await.map(drop).map_err(of_somebody),
            Question::Http { address, path } => {
                let stream = connect(address).await.map_err(of_somebody)?;
                get(stream, address, path).await.map_err(of_somebody)
            }
            Question::Own { cluster, run, path } => {
                let cluster = cluster.as_ref().ok_or(Unreachable::Nowhere)?;
                let stream = cluster.probe(*run).await?;
                get(stream, "localhost", path).await.map_err(|fault| Trouble::Fault(Fault::Own(fault)))
            }
            Question::Exec(exec) => exec.ask().await.map_err(of_somebody),
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))
}

/// A status from 200 to 399 is good, as in Kubernetes.
async fn get(mut stream: TcpStream, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("GET {path}: {error}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pmr\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    let read = stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
    match status(&answer) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path}: status {status}")),
        None => Err(read.err().map_or_else(|| format!("GET {path}: no HTTP answer"), failed)),
    }
}

/// The status of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for odd in [&b""[..], b"hello", b"HTTP/2 200 OK\r\n", b"HTTP/1.1\r\n", b"\xff\xff 200"] {
            assert_eq!(status(odd), None, "{odd:?}");
        }
    }
}
