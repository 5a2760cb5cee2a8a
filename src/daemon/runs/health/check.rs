//! One check: a connection, and for HTTP one request; or a command. Of an HTTP answer only the status is read.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exec::Exec;
use crate::cluster::{Cluster, OwnConnection, Unreachable};
use crate::protocol::Run;
use crate::supervisor::Fault;

/// A longer line is no status.
const LONGEST_LINE: usize = 4 << 10;
/// More behind it is not read, and not for longer.
const LONGEST_REST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(1);

/// What a check came to, if not that all is well.
#[derive(Debug)]
pub(crate) enum Trouble {
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
pub(crate) enum Question {
    /// Whether somebody listens there.
    Tcp { cluster: Option<Cluster>, address: String },
    /// A request to this address.
    Http { cluster: Option<Cluster>, address: String, path: String },
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
    pub(crate) async fn ask(&mut self, limit: Duration) -> Result<(), Trouble> {
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
            Question::Tcp { cluster, address } => {
                connect(cluster.as_ref(), address).await.map(drop).map_err(of_somebody)
            }
            Question::Http { cluster, address, path } => {
                let call = connect(cluster.as_ref(), address).await.map_err(of_somebody)?;
                get(call, address, path).await.map_err(of_somebody)
            }
            Question::Own { cluster, run, path } => {
                let cluster = cluster.as_ref().ok_or(Unreachable::Nowhere)?;
                let call = cluster.probe(*run).await?;
                get(call, "localhost", path).await.map_err(|fault| Trouble::Fault(Fault::Own(fault)))
            }
            Question::Exec(exec) => exec.ask().await.map_err(of_somebody),
        }
    }
}

/// The cluster of the app, if it has one, knows which connections are our own.
async fn connect(cluster: Option<&Cluster>, address: &str) -> Result<OwnConnection, String> {
    let connected = match cluster {
        Some(cluster) => cluster.connect(address).await,
        None => tokio::net::TcpStream::connect(address).await.map(OwnConnection::from),
    };
    connected.map_err(|error| format!("{address}: {error}"))
}

/// A status from 200 to 399 is good, as in Kubernetes. Its line is all there is to wait for: behind it there may be an
/// answer without an end, or a server that keeps its connections open.
async fn get(mut call: OwnConnection, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("GET {path}: {error}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pmr\r\nConnection: close\r\n\r\n");
    call.stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let head = first_line(&mut call).await;
    tokio::task::spawn_local(tokio::time::timeout(PATIENCE, read_out(call)));
    match status(head.as_ref().map_or(&[], Vec::as_slice)) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path}: status {status}")),
        None => Err(head.err().map_or_else(|| format!("GET {path}: no HTTP answer"), failed)),
    }
}

/// What comes before the first line ends, or all that comes.
async fn first_line(call: &mut OwnConnection) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < LONGEST_LINE {
        if call.stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(line)
}

/// Reads the rest of an answer that is not long, so that the server is not told that its client has gone.
async fn read_out(mut call: OwnConnection) {
    let mut rest = (&mut call.stream).take(LONGEST_REST);
    // It says nothing about the server any more.
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}

/// The status of an answer that has begun with a whole first line.
fn status(answer: &[u8]) -> Option<u16> {
    let mut response = httparse::Response::new(&mut []);
    // It is known even if headers are missing or there is no room for them.
    let _ = response.parse(answer);
    response.code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        assert_eq!(status(b"HTTP/1.0 204\nX: y\n"), Some(204));
        for odd in [&b""[..], b"hello", b"HTTP/2 200 OK\r\n", b"HTTP/1.1\r\n", b"\xff\xff 200"] {
            assert_eq!(status(odd), None, "{odd:?}");
        }
    }

    /// What is made of a server that says these parts, one by one, and then keeps the connection open.
    fn asked(parts: &'static [&'static str]) -> Result<(), Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap().to_string();
            let (over, done) = tokio::sync::oneshot::channel::<()>();
            tokio::task::spawn_local(async move {
                let (mut client, _) = server.accept().await.unwrap();
                for part in parts {
                    client.write_all(part.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let _ = done.await;
            });
            let mut question = Question::Http { cluster: None, address, path: "/up".into() };
            let answer = question.ask(Duration::from_secs(60)).await;
            drop(over);
            answer
        })
    }

    #[test]
    fn an_answer_without_an_end_is_an_answer() {
        assert!(asked(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).is_ok());
        assert!(asked(&["HTT", "P/1.1 20", "0 OK\r", "\n\r\n", "and so on"]).is_ok());
        let Err(Trouble::Fault(fault)) = asked(&["HTTP/1.1 500 Oops\r\n\r\n", "and so on"]) else { panic!() };
        assert_eq!(fault, Fault::Unattributed("GET /up: status 500".into()));
    }
}
