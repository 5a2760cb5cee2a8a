//! A single health check: a connection, and for HTTP one request; or a command. Only the status of an HTTP answer counts.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::exec::Exec;
use crate::cluster::{Cluster, OwnConnection, Unreachable};
use crate::protocol::Run;
use crate::supervisor::Fault;

/// Bytes of the first line that are read at most: a status line is shorter.
const MAX_LINE: usize = 4 << 10;
/// Bytes after the first line that are read at most.
const MAX_REST: u64 = 64 << 10;
/// How long the rest of an answer is read at most.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a check was not passed.
#[derive(Debug)]
pub(crate) enum CheckError {
    /// The check failed with this fault.
    Fault(Fault),
    /// The run could not be checked at this moment, which says nothing about its health.
    NotChecked,
}

impl From<Unreachable> for CheckError {
    fn from(why: Unreachable) -> CheckError {
        match why {
            Unreachable::NotNow => CheckError::NotChecked,
            Unreachable::Nowhere => CheckError::Fault(Fault::Own(why.to_string())),
            // The run may serve its clients all the same.
            Unreachable::Shared | Unreachable::Elsewhere | Unreachable::ByHash | Unreachable::Failed(_) => {
                CheckError::Fault(Fault::Unattributed(why.to_string()))
            }
        }
    }
}

/// A check of a run that is made repeatedly. The `cluster` is that of the run's app, if the app has one.
pub(crate) enum HealthCheck {
    /// A connection to this address is accepted.
    Tcp { cluster: Option<Cluster>, address: String },
    /// A GET request for this path at this address succeeds.
    Http { cluster: Option<Cluster>, address: String, path: String },
    /// A GET request over a connection that is passed to this run alone succeeds.
    Own { cluster: Option<Cluster>, run: Run, path: String },
    /// A command exits with code 0.
    Exec(Box<Exec>),
}

impl HealthCheck {
    /// Makes the check once; it fails if it takes longer than `limit`.
    pub(crate) async fn run(&mut self, limit: Duration) -> Result<(), CheckError> {
        if let Ok(result) = tokio::time::timeout(limit, self.run_without_limit()).await {
            return result;
        }
        let limit = limit.as_millis();
        Err(CheckError::Fault(match self {
            HealthCheck::Tcp { .. } | HealthCheck::Http { .. } => {
                Fault::Unattributed(format!("no answer in {limit} ms"))
            }
            HealthCheck::Own { .. } => Fault::Own(format!("no answer in {limit} ms")),
            HealthCheck::Exec(exec) => Fault::Unattributed(format!("`{}` did not end in {limit} ms", exec.name())),
        }))
    }

    async fn run_without_limit(&mut self) -> Result<(), CheckError> {
        let unattributed = |fault| CheckError::Fault(Fault::Unattributed(fault));
        match self {
            HealthCheck::Tcp { cluster, address } => {
                connect(cluster.as_ref(), address).await.map(drop).map_err(unattributed)
            }
            HealthCheck::Http { cluster, address, path } => {
                let connection = connect(cluster.as_ref(), address).await.map_err(unattributed)?;
                get(connection, address, path).await.map_err(unattributed)
            }
            HealthCheck::Own { cluster, run, path } => {
                let cluster = cluster.as_ref().ok_or(Unreachable::Nowhere)?;
                let connection = cluster.probe(*run).await?;
                get(connection, "localhost", path).await.map_err(|fault| CheckError::Fault(Fault::Own(fault)))
            }
            HealthCheck::Exec(exec) => exec.run().await.map_err(unattributed),
        }
    }
}

/// Connects by way of the app's cluster, if it has one: the cluster then knows that the connection is a probe.
async fn connect(cluster: Option<&Cluster>, address: &str) -> Result<OwnConnection, String> {
    let connected = match cluster {
        Some(cluster) => cluster.connect(address).await,
        None => tokio::net::TcpStream::connect(address).await.map(OwnConnection::from),
    };
    connected.map_err(|error| format!("{address}: {error}"))
}

/// Sends a GET request. A status from 200 to 399 passes, as in Kubernetes. Only the status line is waited for: the answer
/// may have no end, or the server may keep the connection open.
async fn get(mut connection: OwnConnection, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("GET {path}: {error}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pmr\r\nConnection: close\r\n\r\n");
    connection.stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let head = first_line(&mut connection).await;
    tokio::task::spawn_local(tokio::time::timeout(REST_TIMEOUT, read_rest(connection)));
    match status(head.as_ref().map_or(&[], Vec::as_slice)) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path}: status {status}")),
        None => Err(head.err().map_or_else(|| format!("GET {path}: no HTTP answer"), failed)),
    }
}

/// Reads until there is a whole line, or [`MAX_LINE`] bytes, or the end of the stream. May contain bytes of later lines.
async fn first_line(connection: &mut OwnConnection) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') && line.len() < MAX_LINE {
        if connection.stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(line)
}

/// Reads the rest of an answer, up to [`MAX_REST`] bytes: if the connection were closed before, the server might log that
/// its client went away.
async fn read_rest(mut connection: OwnConnection) {
    let mut rest = (&mut connection.stream).take(MAX_REST);
    // The result does not matter: the check has its status already.
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}

/// The status of an answer whose first line is complete; `None` if it is no HTTP answer.
fn status(answer: &[u8]) -> Option<u16> {
    let mut response = httparse::Response::new(&mut []);
    // An error does not matter: headers may be missing, and the parser has no room for them. The status is set before.
    let _ = response.parse(answer);
    response.code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        assert_eq!(status(b"HTTP/1.0 204\nX: y\n"), Some(204));
        for odd in [&b""[..], b"hello", b"HTTP/2 200 OK\r\n", b"HTTP/1.1\r\n", b"\xff\xff 200"] {
            assert_eq!(status(odd), None, "{odd:?}");
        }
    }

    /// The result of a check of a server that sends these parts, one by one, and then keeps the connection open.
    fn check(parts: &'static [&'static str]) -> Result<(), CheckError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap().to_string();
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            tokio::task::spawn_local(async move {
                let (mut client, _) = server.accept().await.unwrap();
                for part in parts {
                    client.write_all(part.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let _ = ended.await;
            });
            let mut check = HealthCheck::Http { cluster: None, address, path: "/up".into() };
            let result = check.run(Duration::from_secs(60)).await;
            drop(end);
            result
        })
    }

    #[test]
    fn a_check_does_not_wait_for_the_end_of_the_answer() {
        assert!(check(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).is_ok());
        assert!(check(&["HTT", "P/1.1 20", "0 OK\r", "\n\r\n", "and so on"]).is_ok());
        let Err(CheckError::Fault(fault)) = check(&["HTTP/1.1 500 Oops\r\n\r\n", "and so on"]) else { panic!() };
        assert_eq!(fault, Fault::Unattributed("GET /up: status 500".into()));
    }
}
