//! Which ports the workers of a cluster share, and how, where that is done by taking over their binds.

use serde::{Deserialize, Serialize};

use super::{AppSpec, Balance, Mechanism};

/// What of a cluster's sockets is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    /// These ports and no others; all, if it is empty. Port 0 is never shared.
    pub ports: Vec<u16>,
    /// Where connections wait.
    pub share: Share,
}

/// Where connections wait until a worker accepts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Each worker has a queue of its own.
    #[default]
    Own,
    /// All workers have one queue: who is idle takes the next connection. A worker cannot be kept out of it.
    Queue,
}

impl Sharing {
    /// True if workers that bind to this port are to share it.
    #[must_use]
    pub fn shares(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

impl AppSpec {
    /// What of how its workers share cannot be, as a key and a sentence.
    pub(super) fn sharing_contradiction(&self) -> Option<(&'static str, String)> {
        let from_one = self.mechanism() == Mechanism::Takeover && self.sharing.share == Share::Queue;
        (from_one && self.balance == Balance::Sticky).then(|| {
            let why = "`sticky` gives each client a worker of its own, and with `share: queue` any of them accepts";
            ("balance", why.to_owned())
        })
    }

    /// What of its settings may not hold, or does not, as sentences: whether it does may only be known once its programs
    /// run.
    #[must_use]
    pub fn reservations(&self) -> Vec<&'static str> {
        let (by_kernel, taken_over) = match self.mechanism() {
            Mechanism::None | Mechanism::Node => (false, false),
            Mechanism::Activation => (true, false),
            Mechanism::Takeover => (true, true),
        };
        let least =
            "`balance: least` is for Node and for pmr's own channel: to any other program the kernel deals in turn";
        let most =
            "`max_connections` is for Node and for pmr's own channel: any other program has as many as it accepts";
        let sharing = "`share` and `cluster_ports` say how clusters of programs share what they bind, other than Node's and \
                       those that are given their sockets: nothing goes by them here";
        [
            (by_kernel && self.balance == Balance::Least, least),
            (by_kernel && self.queue.max_connections.is_some(), most),
            (!taken_over && self.sharing != Sharing::default(), sharing),
        ]
        .into_iter()
        .filter_map(|(is_so, why)| is_so.then_some(why))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExecMode, Program, QueueRule};
    use super::*;

    #[test]
    fn what_the_kernel_cannot_do_is_told_or_refused() {
        let program = Program::Binary { path: "/srv/app".into() };
        let app = AppSpec { mode: ExecMode::Cluster, program, ..super::super::sample() };
        assert!(app.mechanism() == Mechanism::Takeover && app.reservations().is_empty());
        let least = AppSpec { balance: Balance::Least, ..app.clone() };
        assert!(matches!(least.reservations()[..], [why] if why.contains("`balance: least`")));
        let queue = QueueRule { max_connections: Some(5), ..app.queue };
        let limited = AppSpec { queue, balance: Balance::Least, ..app.clone() };
        assert_eq!((limited.reservations().len(), limited.contradiction()), (2, None));
        let alone = AppSpec { mode: ExecMode::Fork, ..limited };
        assert!(alone.reservations().is_empty());
        let sharing = Sharing { ports: vec![80], ..Sharing::default() };
        let nothing_to_share = AppSpec { sharing: sharing.clone(), ..alone };
        assert!(matches!(nothing_to_share.reservations()[..], [why] if why.contains("nothing goes by them")));
        assert!(AppSpec { sharing, ..app.clone() }.reservations().is_empty());
        let sticky = AppSpec { balance: Balance::Sticky, ..app };
        assert_eq!((sticky.contradiction(), sticky.reservations().len()), (None, 0));
        let sharing = Sharing { share: Share::Queue, ..Sharing::default() };
        let shared = AppSpec { sharing, ..sticky };
        assert!(shared.contradiction().is_some_and(|(key, _)| key == "balance"));
    }
}
