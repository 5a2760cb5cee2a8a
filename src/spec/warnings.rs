//! Settings of an app that may have no effect, though they contradict nothing: printed at a start, listed by
//! `describe`.

use std::net::{IpAddr, SocketAddr};

use super::activation::Address;
use super::health::Probe;
use super::{AppSpec, Balance, Mechanism, Sharing};

impl AppSpec {
    /// Warnings about settings without effect, as sentences. Some of them depend on the program, which is known only
    /// once it runs.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let (by_kernel, intercepted) = match self.mechanism() {
            Mechanism::None | Mechanism::Node => (false, false),
            Mechanism::Activation => (true, false),
            Mechanism::BindInterception => (true, true),
        };
        let least = "`balance: least` is for Node and for pmr's own channel: for any other program the kernel distributes in turn";
        let most =
            "`max_connections` is for Node and for pmr's own channel: any other program has as many as it accepts";
        let waiting = "`queue_timeout` is for clusters and for sockets in `listen`: any other process has its port for itself, \
                       and connections are refused while it is down";
        let sharing = "`share` and `cluster_ports` are for clusters of programs whose `bind` is intercepted, not for Node and not \
                       for sockets in `listen`: they have no effect here";
        [
            (by_kernel && self.balance == Balance::Least, least),
            (by_kernel && self.queue.max_connections.is_some(), most),
            (self.mechanism() == Mechanism::None && self.queue.timeout.is_some(), waiting),
            (!intercepted && self.sharing != Sharing::default(), sharing),
        ]
        .into_iter()
        .filter_map(|(is_so, why)| is_so.then_some(why))
        .chain(self.vacuous_check())
        .chain(self.check_that_prevents_idling())
        .collect()
    }

    /// The warning about a check that is answered by the kernel, and not by the process.
    fn vacuous_check(&self) -> Option<&'static str> {
        let Probe::Tcp { address } = &self.health.as_ref()?.probe else { return None };
        self.is_given(address).then_some(
            "its check connects to a socket in `listen`, where the kernel answers even without a process: it proves \
             nothing, but a check by `http` would",
        )
    }

    /// The warning about a check that counts as use, so that the app never becomes idle.
    fn check_that_prevents_idling(&self) -> Option<&'static str> {
        let health = self.health.as_ref()?;
        if self.activation.idle_timeout? < health.interval {
            return None;
        }
        match &health.probe {
            Probe::Exec(_) => Some(
                "its check is a command, and made more often than `idle_timeout`: if the command connects to the app, \
                 that counts as use, and the app never becomes idle",
            ),
            Probe::Tcp { address } | Probe::Http { address: Some(address), .. } if !self.is_given(address) => Some(
                "its check goes to an address that is not one of `listen`, and more often than `idle_timeout`: if it \
                 reaches the app from there, that counts as use, and the app never becomes idle",
            ),
            Probe::Tcp { .. } | Probe::Http { .. } | Probe::Log(_) => None,
        }
    }

    /// True if a connection to this address goes directly to a socket in `listen`, as far as the text shows: a name may
    /// be that of another machine.
    #[must_use]
    pub fn is_given(&self, address: &str) -> bool {
        let Some((host, port)) = address.rsplit_once(':') else { return false };
        let to = address.parse::<SocketAddr>().ok().map(|address| address.ip());
        let is_local = to.is_some_and(is_own) || host == "localhost";
        self.activation.listen.iter().any(|endpoint| match endpoint.address {
            Address::Tcp(own) if Ok(own.port()) != port.parse() => false,
            Address::Tcp(own) if is_local => is_own(own.ip()),
            Address::Tcp(own) => to.is_some_and(|to| own.ip().is_unspecified() || own.ip() == to),
            Address::Udp(_) | Address::Unix(_) => false,
        })
    }
}

/// True for a loopback or unspecified address, which is always of this machine.
fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Activation, ExecMode, Health, Program, QueueRule, Share};
    use super::*;

    #[test]
    fn balance_modes_that_the_kernel_lacks_cause_warnings_or_errors() {
        let program = Program::Binary { path: "/srv/app".into() };
        let app = AppSpec { mode: ExecMode::Cluster, program, ..super::super::sample() };
        assert!(app.mechanism() == Mechanism::BindInterception && app.warnings().is_empty());
        let least = AppSpec { balance: Balance::Least, ..app.clone() };
        assert!(matches!(least.warnings()[..], [why] if why.contains("`balance: least`")));
        let queue = QueueRule { max_connections: Some(5), ..app.queue };
        let limited = AppSpec { queue, balance: Balance::Least, ..app.clone() };
        assert_eq!((limited.warnings().len(), limited.contradiction()), (2, None));
        let alone = AppSpec { mode: ExecMode::Fork, ..limited };
        assert!(alone.warnings().is_empty());
        let sharing = Sharing { ports: vec![80], ..Sharing::default() };
        let nothing_to_share = AppSpec { sharing: sharing.clone(), ..alone };
        assert!(matches!(nothing_to_share.warnings()[..], [why] if why.contains("they have no effect here")));
        assert!(AppSpec { sharing, ..app.clone() }.warnings().is_empty());
        let sticky = AppSpec { balance: Balance::Sticky, ..app };
        assert_eq!((sticky.contradiction(), sticky.warnings().len()), (None, 0));
        let sharing = Sharing { share: Share::Queue, ..Sharing::default() };
        let shared = AppSpec { sharing, ..sticky };
        assert!(shared.contradiction().is_some_and(|(key, _)| key == "balance"));
    }

    #[test]
    fn a_queue_timeout_without_a_cluster_or_sockets_causes_a_warning() {
        let queue = QueueRule { timeout: Some(Duration::from_secs(5)), ..QueueRule::default() };
        let app = AppSpec { queue, ..super::super::sample() };
        assert!(matches!(app.warnings()[..], [why] if why.contains("`queue_timeout` is for clusters")));
        let listen = vec!["unix:///run/a.sock".parse().unwrap()];
        let given = AppSpec { activation: Activation { listen, ..Activation::default() }, ..app.clone() };
        assert!(given.warnings().is_empty());
        let program = Program::Binary { path: "/srv/app".into() };
        assert!(AppSpec { mode: ExecMode::Cluster, program, ..app }.warnings().is_empty());
    }

    #[test]
    fn a_check_that_may_prevent_idling_causes_a_warning() {
        let app = |probe, idle| {
            let activation = Activation {
                listen: vec!["tcp://127.0.0.1:3000".parse().unwrap()],
                idle_timeout: Some(Duration::from_secs(idle)),
                min_instances: None,
            };
            let health = Health { interval: Duration::from_secs(10), ..Health::new(probe) };
            AppSpec { activation, health: Some(health), ..super::super::sample() }
        };
        let warned = |probe: Probe| app(probe, 60).warnings();
        let tcp = |address: &str| Probe::Tcp { address: address.to_owned() };
        let http = |address: Option<&str>| Probe::Http { address: address.map(str::to_owned), path: "/".to_owned() };
        let exec = || Probe::Exec(super::super::health::Command::Line("curl -f localhost:3000".to_owned()));
        assert!(matches!(warned(exec())[..], [why] if why.contains("is a command")));
        for elsewhere in ["localhost:80", "example.org:3000", "10.0.0.1:80", "10.0.0.1:3000"] {
            assert!(matches!(warned(tcp(elsewhere))[..], [why] if why.contains("not one of `listen`")), "{elsewhere}");
        }
        assert!(warned(http(Some("localhost:80")))[0].contains("not one of `listen`"));
        for known in ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "0.0.0.0:3000"] {
            assert!(warned(http(Some(known))).is_empty(), "{known}");
            assert!(matches!(warned(tcp(known))[..], [why] if why.contains("proves nothing")), "{known}");
        }
        assert!(warned(http(None)).is_empty());
        assert!(app(exec(), 5).warnings().is_empty(), "it rests from one check to the next");
    }
}
