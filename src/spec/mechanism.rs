//! The mechanism by which the workers of an app share their listen addresses.

use serde::{Deserialize, Serialize};

use super::activation::Address;
use super::health::{Health, Probe};
use super::{AppSpec, Balance, ExecMode, Share, interpreter};

/// The mechanism by which workers share their listen addresses, according to their spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// Fork mode: they share nothing.
    None,
    /// pmr opens sockets for them, which they inherit from descriptor 3 on.
    Activation,
    /// Node's own cluster protocol, with the daemon as its primary.
    Node,
    /// pmr intercepts their `bind` and `listen`. A worker that uses pmr's own protocol on `PMR_CHANNEL_FD` gets its
    /// connections there instead.
    #[serde(rename = "takeover")]
    BindInterception,
}

impl AppSpec {
    /// The mechanism by which its workers share their listen addresses.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        if !self.activation.listen.is_empty() {
            return Mechanism::Activation;
        }
        match self.mode {
            ExecMode::Fork => Mechanism::None,
            ExecMode::Cluster if interpreter::is_node_app(&self.program) => Mechanism::Node,
            ExecMode::Cluster => Mechanism::BindInterception,
        }
    }

    /// True if a worker that listens may not be ready: it gets no connection before it has reported readiness, passed its
    /// check, or accepted a connection of the daemon's own. A worker that is probed over the shared port has to get
    /// connections there before it is ready.
    #[must_use]
    pub fn listens_before_ready(&self) -> bool {
        use Probe::{Http, Log};
        let without_the_port = |health: &Health| matches!(health.probe, Http { address: None, .. } | Log(_));
        let accepts_later = || self.mechanism() == Mechanism::BindInterception;
        self.mode == ExecMode::Cluster
            && (self.readiness.wait_ready || self.health.as_ref().map_or_else(accepts_later, without_the_port))
    }

    /// True if a worker may be kept without connections before it is ready: always if it [listens before
    /// that](AppSpec::listens_before_ready), and if it has a check, as long as other workers serve.
    #[must_use]
    pub fn may_be_held_back(&self) -> bool {
        self.listens_before_ready() || (self.mode == ExecMode::Cluster && self.health.is_some())
    }

    /// True if each process can be probed over a connection of its own: it gets its connections from the daemon, or has
    /// its own accept queue.
    #[must_use]
    pub fn has_own_connections(&self) -> bool {
        match self.mechanism() {
            Mechanism::None => false,
            Mechanism::Activation => {
                self.activation.listen.iter().any(|endpoint| matches!(endpoint.address, Address::Tcp(_)))
            }
            Mechanism::Node => self.balance != Balance::Shared,
            Mechanism::BindInterception => self.sharing.share == Share::Own,
        }
    }

    /// True if the check probes each worker separately. A connection to a common address is answered by any of the
    /// workers, and the target of a command is unknown.
    #[must_use]
    pub fn checks_each_worker(&self) -> bool {
        let is_separate = |health: &Health| match &health.probe {
            Probe::Http { address, .. } => address.as_ref().is_none_or(|address| self.is_given(address)),
            Probe::Tcp { .. } | Probe::Exec(_) | Probe::Log(_) => false,
        };
        self.mode == ExecMode::Cluster && self.health.as_ref().is_some_and(is_separate)
    }
}
