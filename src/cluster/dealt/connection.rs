//! One client's connection, from the moment it is accepted until a worker has answered for it.

use std::rc::Rc;

use crate::cluster::balancer::{Client, ListenerId};
use crate::cluster::options::ClusterOptions;
use crate::cluster::persist::AcceptedSocket;
use crate::os::net::connection;
use crate::protocol::Run;
use crate::spec::Balance;

/// A connection on its way to a worker. It is open in the daemon, too, until the worker has confirmed that it took it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Rc<AcceptedSocket>,
    /// The listener that it came in by.
    pub(crate) listener: ListenerId,
    /// Known only where the policy needs it ([`Balance::Sticky`]).
    pub(crate) client: Client,
    /// The workers that have refused it since the last pause.
    pub(crate) refused: Vec<Run>,
}

impl Connection {
    pub(crate) fn new(socket: AcceptedSocket, listener: ListenerId, options: &ClusterOptions) -> Connection {
        let client = match options.balance {
            Balance::Sticky => connection::peer_address(&socket).map(Client::at).unwrap_or_default(),
            Balance::RoundRobin | Balance::Least | Balance::Shared => Client::default(),
        };
        Connection { socket: Rc::new(socket), listener, client, refused: Vec::new() }
    }
}
