//! One try at the daemon's socket, and what each failure means.

use std::io;

use tokio::net::UnixStream;

use super::failure::{Doing, Failure};
use crate::paths::Home;

/// What was found at the socket.
pub enum Reached {
    /// Somebody listens.
    Daemon(UnixStream),
    /// Nobody does; a socket file left behind counts as nobody.
    Nobody,
}

/// Tries the socket once.
pub async fn reach(home: &Home) -> Result<Reached, Failure> {
    let path = home.rpc_sock();
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Reached::Daemon(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Reached::Nobody),
            io::ErrorKind::PermissionDenied => {
                Err(Failure::new(format!("{} may not be opened: {error}", path.display()))
                    .hint("only the owner of a daemon can talk to it; is PMR_HOME the one you mean?"))
            }
            io::ErrorKind::InvalidInput => Err(Failure::new(format!("{}: {error}", path.display()))
                .hint("the path of a socket is limited to 107 bytes: set PMR_HOME to a shorter one")),
            io::ErrorKind::WouldBlock => {
                Err(Failure::new(format!("the daemon at {} takes no more calls", path.display()))
                    .hint("it hangs or is very busy; its pid is in pmr.pid"))
            }
            _ => Err(error).doing(|| format!("connecting to {}", path.display())),
        },
    }
}
