//! What a cluster reports to its owner.

use serde_json::Value;

use crate::protocol::Run;

/// One report of a cluster to its owner, the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Node has started in the worker; the app's code has not run yet.
    Online {
        /// The worker's run.
        run: Run,
    },
    /// The worker listens. Sent for each listener of each worker, but not for listeners that the worker opened past the
    /// cluster (`exclusive`).
    Listening {
        /// The worker's run.
        run: Run,
        /// For people: `127.0.0.1:3000`, `[::]:3000`, `/run/x.sock`, `udp 0.0.0.0:53`.
        address: String,
        /// True if the worker takes connections there; false if [`Notice::Accepting`] follows when it does.
        accepts: bool,
    },
    /// The worker, which listens, has accepted a connection that the daemon made, or it cannot be found out whether it
    /// accepts.
    Accepting {
        /// The worker's run.
        run: Run,
    },
    /// The app called `process.send`.
    Message {
        /// The worker's run.
        run: Run,
        /// The message, as JSON.
        data: Value,
    },
    /// The preload module has been loaded in a Node worker.
    NodeVersion {
        /// The worker's run.
        run: Run,
        /// `process.version`.
        version: String,
    },
    /// [`Cluster::drain`](super::Cluster::drain) has ended: the worker has disconnected, or its time is up.
    Drained {
        /// The worker's run.
        run: Run,
    },
    /// A worker could not have the address that it wanted to listen on.
    ListenFailed {
        /// The worker's run.
        run: Run,
        /// For people: `port 80 is in use by pid 17 (nginx)`.
        why: String,
    },
    /// No client has been connected to the app for its idle timeout.
    Idle {
        /// The app's number.
        app: u32,
    },
    /// Connections wait for the app, and no worker takes them.
    Demand {
        /// The app's number.
        app: u32,
    },
    /// The worker closed its channel, or died. Comes before or after the report of the worker's exit.
    Disconnected {
        /// The worker's run.
        run: Run,
    },
}

impl Notice {
    /// The run of the worker whose own message this notice carries. `None` for notices that the cluster itself makes.
    /// The owner reports each such notice as handled: [`Cluster::notice_handled`](super::Cluster::notice_handled).
    #[must_use]
    pub fn sender(&self) -> Option<Run> {
        match self {
            Notice::Online { run }
            | Notice::Listening { run, .. }
            | Notice::Message { run, .. }
            | Notice::NodeVersion { run, .. } => Some(*run),
            Notice::Accepting { .. }
            | Notice::Drained { .. }
            | Notice::ListenFailed { .. }
            | Notice::Idle { .. }
            | Notice::Demand { .. }
            | Notice::Disconnected { .. } => None,
        }
    }
}
