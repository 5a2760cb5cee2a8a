//! Where the runs of a process listen. A successor that listens, but nowhere its predecessor does, would leave the
//! clients of the predecessor's address without a listener: a variable is missing, say, and it fell back to another
//! port.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::protocol::Run;

/// Where each run listens, as far as it was reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenAddresses {
    /// Shared addresses with a port. A path may be each run's own.
    #[serde(default)]
    addresses: BTreeMap<Run, BTreeSet<String>>,
    /// The successor that would be ready, were it not for where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elsewhere: Option<Run>,
}

impl ListenAddresses {
    pub(crate) fn is_default(&self) -> bool {
        *self == ListenAddresses::default()
    }

    /// `run` listens on `address`. Of runs that are no longer alive the addresses are forgotten. True if the run would
    /// have been ready before, had it listened there.
    pub(crate) fn add(&mut self, run: Run, address: String, alive: &BTreeSet<Run>) -> bool {
        self.addresses.retain(|run, _| alive.contains(run));
        self.addresses.entry(run).or_default().insert(address);
        self.elsewhere == Some(run)
    }

    /// Where each of the two listens, if they share no address, though each has some.
    fn apart(&self, new: Run, old: Run) -> Option<(&BTreeSet<String>, &BTreeSet<String>)> {
        let (new, old) = (self.addresses.get(&new)?, self.addresses.get(&old)?);
        new.is_disjoint(old).then_some((new, old))
    }

    /// True if the successor has to wait, since it listens elsewhere. It is remembered that it waits for nothing else.
    pub(crate) fn hold_back(&mut self, new: Run, old: Run) -> bool {
        let apart = self.apart(new, old).is_some();
        self.elsewhere = apart.then_some(new);
        apart
    }

    /// What keeps the successor from taking over, in words.
    pub(crate) fn fault(&self, new: Run, old: Run) -> Option<String> {
        let (new, old) = self.elsewhere.and_then(|_| self.apart(new, old))?;
        let words = |addresses: &BTreeSet<String>| addresses.iter().cloned().collect::<Vec<_>>().join(", ");
        let (new, old) = (words(new), words(old));
        Some(format!("it listens on {new}, and nothing would listen on {old}; if that is meant, `--force` does it"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::protocol::{Action, Changes, Rollout, Run, Verdict};
    use crate::spec::health::{Health, Probe};
    use crate::spec::{AppSpec, Readiness};
    use crate::supervisor::harness::{Harness, cluster, drain, reload, spawn};
    use crate::supervisor::{Effect, Input, Proof};

    /// A worker of run 1 that listens on port 3000, and its successor, run 2.
    fn stage(spec: AppSpec) -> Harness {
        let mut harness = Harness::with(AppSpec { instances: 1, ..spec });
        listen(&mut harness, 1, "[::]:3000");
        assert_eq!(harness.act(reload(), "api"), [spawn(2, 0)]);
        harness
    }

    fn listen(harness: &mut Harness, run: u64, address: &str) -> Vec<Effect> {
        let run = Run(run);
        let mut effects = harness.input(Input::Listening { run, address: address.to_owned() });
        effects.extend(harness.input(Input::Ready { run, proof: Proof::Listening }));
        effects
    }

    #[test]
    fn a_successor_on_another_port_is_not_promoted() {
        let mut harness = stage(cluster(1));
        assert_eq!(listen(&mut harness, 2, "[::]:80"), []);
        harness.pass(30_000);
        let reason = "not ready after 30 s: it listens on [::]:80, and nothing would listen on [::]:3000; if that is meant, \
                      `--force` does it";
        assert_eq!(harness.verdicts(), [(0, Verdict::Failed { reason: reason.to_owned(), old_serves: true })]);
        assert_eq!(harness.process(0).current_run(), Some(Run(1)));
    }

    #[test]
    fn one_port_of_several_is_enough() {
        let mut harness = stage(cluster(1));
        assert_eq!(listen(&mut harness, 2, "[::]:9100"), []);
        assert_eq!(listen(&mut harness, 2, "[::]:3000"), [drain(1)]);
    }

    #[test]
    fn a_ready_message_before_the_right_address_is_remembered() {
        let readiness = Readiness { wait_ready: true, listen_timeout: Some(Duration::from_secs(60)) };
        let mut harness = stage(AppSpec { readiness, ..cluster(1) });
        listen(&mut harness, 2, "[::]:9100");
        assert_eq!(harness.ready(2), []);
        assert_eq!(listen(&mut harness, 2, "[::]:3000"), [drain(1)]);
    }

    #[test]
    fn a_health_check_that_passes_elsewhere_does_not_count() {
        let probe = Probe::Tcp { address: "127.0.0.1:1".to_owned() };
        let mut harness = Harness::with(AppSpec { health: Some(Health::new(probe)), ..cluster(1) });
        let passes = |harness: &mut Harness, run| harness.input(Input::Checked { run: Run(run), fault: None });
        listen(&mut harness, 1, "[::]:3000");
        passes(&mut harness, 1);
        harness.act(reload(), "api");
        listen(&mut harness, 2, "[::]:80");
        assert_eq!(passes(&mut harness, 2), []);
        assert_eq!(listen(&mut harness, 2, "[::]:3000"), [drain(1)]);
    }

    #[test]
    fn paths_may_differ_and_force_moves_all() {
        let mut harness = stage(cluster(1));
        assert_eq!(listen(&mut harness, 2, "/run/2.sock"), [drain(1)]);
        let mut harness = Harness::with(cluster(1));
        listen(&mut harness, 1, "[::]:3000");
        let rollout = Rollout { force: true, ..Rollout::waves(1) };
        harness.act(Action::Reload { changes: Changes::default(), rollout }, "api");
        assert_eq!(listen(&mut harness, 2, "[::]:80"), [drain(1)]);
    }
}
