//! How the workers of an app come to share what they listen on.

use serde::{Deserialize, Serialize};

use super::activation::Address;
use super::health::{Health, Probe};
use super::{AppSpec, Balance, ExecMode, Share, interpreter};

/// By what workers share what they listen on, as far as their spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// They share nothing: fork mode.
    None,
    /// Sockets are opened for them, which they find at descriptor 3 and up.
    Activation,
    /// Node's own cluster protocol, with the daemon as its primary.
    Node,
    /// Their sockets are taken over as they bind and listen. A worker that speaks pmr's own protocol on
    /// `PMR_CHANNEL_FD` gets its connections there instead.
    #[serde(rename = "takeover")]
    BindInterception,
}

impl AppSpec {
    /// By what its workers share what they listen on.
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
        let past_the_port = |health: &Health| matches!(health.probe, Http { address: None, .. } | Log(_));
        let accepts_later = || self.mechanism() == Mechanism::BindInterception;
        self.mode == ExecMode::Cluster
            && (self.readiness.wait_ready || self.health.as_ref().map_or_else(accepts_later, past_the_port))
    }

    /// True if a worker may be kept without connections before it is ready: always where it
    /// [listens before that](AppSpec::listens_before_ready), and wherever others serve meanwhile if it is to pass a check.
    #[must_use]
    pub fn may_be_withheld(&self) -> bool {
        self.listens_before_ready() || (self.mode == ExecMode::Cluster && self.health.is_some())
    }

    /// True if each process can be asked over a connection that goes to it alone: it has its connections from the daemon,
    /// or an accept queue of its own.
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

    /// True if a check finds out about each of several workers by itself. Whoever is dealt a connection to a common
    /// address answers for all, and nobody knows what a command asks.
    #[must_use]
    pub fn checks_each_worker(&self) -> bool {
        let by_itself = |health: &Health| match &health.probe {
            Probe::Http { address, .. } => address.as_ref().is_none_or(|address| self.is_given(address)),
            Probe::Tcp { .. } | Probe::Exec(_) | Probe::Log(_) => false,
        };
        self.mode == ExecMode::Cluster && self.health.as_ref().is_some_and(by_itself)
    }
}
