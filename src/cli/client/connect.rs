//! Connects to the daemon's socket, and explains each failure.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use super::suspended;
use crate::cli::failure::{Doing, Failure};
use crate::os::fs::files;
use crate::paths::Home;

/// How long a running daemon may have no socket: it starts, ends, or makes a socket again that was deleted.
const WITHOUT_SOCKET: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Result of an attempt to connect.
pub enum Connection {
    /// The daemon accepted.
    Open(UnixStream),
    /// No process listens, even if an old socket file exists.
    NoDaemon,
}

/// Tries to connect once, and repeatedly as long as a daemon holds the home's lock.
pub async fn connect(home: &Home) -> Result<Connection, Failure> {
    let start = Instant::now();
    loop {
        match once(home).await? {
            Connection::NoDaemon if files::is_locked(&home.pid_file()) => {}
            found => return Ok(found),
        }
        if start.elapsed() > WITHOUT_SOCKET {
            return Err(unreachable(home));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

fn unreachable(home: &Home) -> Failure {
    let pid = std::fs::read_to_string(home.pid_file()).unwrap_or_default();
    let failure = Failure::new(format!(
        "the daemon (pid {}) runs, but it cannot be reached: its socket {} is missing",
        pid.trim(),
        home.rpc_sock().display()
    ));
    match suspended::find(home, None) {
        Some(suspended) => failure.hint(format!("{}; {}", suspended.sentence(), suspended.hint())),
        None => failure
            .hint(format!("it makes a new one as soon as it can; {} may say why not", home.daemon_log().display())),
    }
}

async fn once(home: &Home) -> Result<Connection, Failure> {
    let path = home.rpc_sock();
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Connection::Open(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Connection::NoDaemon),
            io::ErrorKind::PermissionDenied => {
                Err(Failure::new(format!("{} may not be opened: {error}", path.display()))
                    .hint("only the owner of a daemon can talk to it; is PMR_HOME the one you mean?"))
            }
            io::ErrorKind::InvalidInput => Err(Failure::new(format!("{}: {error}", path.display()))
                .hint("the path of a socket is limited to 107 bytes: set PMR_HOME to a shorter one")),
            io::ErrorKind::WouldBlock => {
                Err(Failure::new(format!("the daemon at {} accepts no more connections", path.display()))
                    .hint("it hangs or is very busy; its pid is in pmr.pid"))
            }
            _ => Err(error).doing(|| format!("connecting to {}", path.display())),
        },
    }
}
