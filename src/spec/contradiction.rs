//! Settings of an app that contradict each other. Such an app is refused before it is started. Settings without effect
//! only cause [warnings](super::warnings).

use super::activation::{Activation, Address, Endpoint};
use super::dependency::Condition;
use super::health::Probe;
use super::{AppSpec, Balance, Mechanism, Share};

impl AppSpec {
    /// The first contradiction of its settings, as a key and a sentence.
    #[must_use]
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let health_or_order = || self.health_contradiction().or_else(|| self.dependency_contradiction());
        let sharing = || self.sharing_contradiction();
        self.activation_contradiction().or_else(sharing).or_else(health_or_order)
    }

    /// The first contradiction of its socket settings.
    fn activation_contradiction(&self) -> Option<(&'static str, String)> {
        let Activation { listen, idle_timeout, min_instances } = &self.activation;
        for (at, endpoint) in listen.iter().enumerate() {
            if listen[..at].iter().any(|other| other.address == endpoint.address) {
                return Some(("listen", format!("{} is listed twice", endpoint.address)));
            }
        }
        if let Some(why) = self.unsupported_balance() {
            return Some(("balance", why.to_owned()));
        }
        let need = "needs `listen`: pmr must hold the sockets to see whether the app is used";
        let udp = listen.iter().any(|endpoint| matches!(endpoint.address, Address::Udp(_)));
        match (idle_timeout, min_instances) {
            (Some(_), _) if udp => Some(("idle_timeout", "it watches connections, and udp:// has none".to_owned())),
            (Some(_), _) if listen.is_empty() => Some(("idle_timeout", need.to_owned())),
            (None, Some(_)) => Some(("min_instances", "needs `idle_timeout`: when it is to apply".to_owned())),
            (Some(_), Some(least)) if *least > self.instances => {
                Some(("min_instances", format!("{least} is more than the app has ({})", self.instances)))
            }
            _ => None,
        }
    }

    /// Why `balance` cannot apply to connections at the app's sockets.
    fn unsupported_balance(&self) -> Option<&'static str> {
        let listen = &self.activation.listen;
        let has_address = |endpoint: &Endpoint| !matches!(endpoint.address, Address::Unix(_));
        match self.balance {
            Balance::RoundRobin | Balance::Shared => None,
            Balance::Least if listen.is_empty() => None,
            Balance::Least => Some(
                "workers with sockets in `listen` accept for themselves: `least` is for Node and for pmr's own channel",
            ),
            Balance::Sticky if listen.is_empty() || listen.iter().any(has_address) => None,
            Balance::Sticky => Some("`sticky` needs a client address, and connections to a Unix path have none"),
        }
    }

    /// The first contradiction of its sharing settings.
    fn sharing_contradiction(&self) -> Option<(&'static str, String)> {
        let from_one = self.mechanism() == Mechanism::BindInterception && self.sharing.share == Share::Queue;
        (from_one && self.balance == Balance::Sticky).then(|| {
            let why = "`sticky` gives each client one worker, and with `share: queue` any worker accepts";
            ("balance", why.to_owned())
        })
    }

    /// The first contradiction of its health check.
    fn health_contradiction(&self) -> Option<(&'static str, String)> {
        let health = self.health.as_ref()?;
        let why = match &health.probe {
            Probe::Http { address: None, path } if !self.has_own_connections() => format!(
                "a path alone is for workers that can be probed one by one: those of a cluster, unless they all accept \
                 from one queue; name where `{}` listens: http://127.0.0.1:PORT{path}",
                self.name
            ),
            Probe::Log(_) if health.is_timed() => {
                "`log` is awaited once and never fails: `interval`, `timeout`, `retries` and `on_fail` belong to `http`, \
                 `tcp` and `exec`"
                    .to_owned()
            }
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::Exec(_) | Probe::Log(_) => return None,
        };
        Some(("health", why))
    }

    /// The first contradiction of its dependencies.
    fn dependency_contradiction(&self) -> Option<(&'static str, String)> {
        let on_itself = self.depends_on.contains_key(&self.name);
        on_itself.then(|| ("depends_on", format!("`{}` cannot depend on itself", self.name)))
    }

    /// Why the app can never fulfil the condition, and how to change that; `None` if it can.
    #[must_use]
    pub fn never(&self, condition: Condition) -> Option<&'static str> {
        let stays_down = !self.restart.autorestart || self.restart.stop_exit_codes.contains(&0);
        match condition {
            Condition::Started | Condition::Ready => None,
            Condition::Healthy if self.health.is_some() => None,
            Condition::Healthy => Some("has no `health` check: add one, or wait for it to be `ready`"),
            Condition::Completed if self.activation.idle_timeout.is_some() => {
                Some("is no job: it is stopped by its `idle_timeout`; wait for it to be `ready`")
            }
            Condition::Completed if stays_down => None,
            Condition::Completed => {
                Some("is started again whenever it ends: set its `autorestart` to false, or wait for it to be `ready`")
            }
        }
    }
}
