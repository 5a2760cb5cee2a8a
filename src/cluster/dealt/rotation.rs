//! Which workers are in rotation, and what happens to the connections of those that leave it.

use super::member::Life;
use super::state::ClusterState;
use crate::protocol::Run;

impl ClusterState {
    /// The worker gets no connection before it is admitted.
    pub(crate) fn mark_not_ready(&mut self, run: Run) {
        self.balancer.mark_not_ready(run);
        self.save();
    }

    /// The worker gets no connection where others serve, before it is admitted. What it was handed stays with it.
    pub(crate) fn eject(&mut self, run: Run) {
        self.balancer.eject(run);
        self.save();
    }

    /// The worker takes its turns from now on. Connections may have waited for it.
    pub(crate) fn admit(&mut self, run: Run) {
        if self.balancer.admit(run) {
            self.save();
            self.wake_all();
        }
    }

    /// Takes the worker out of rotation for good. Connections that are not written to its channel yet go to others.
    pub(crate) fn exclude(&mut self, run: Run) {
        self.balancer.exclude(run);
        self.keep_listeners_closed_by(run);
        self.update_shedders();
        self.save();
        let Some(member) = self.members.get_mut(&run) else { return };
        let all = std::mem::take(&mut member.pending);
        let (unsent, sent) = all.into_iter().partition(|(seq, _)| member.cancel(*seq));
        member.pending = sent;
        self.dispatch_all(unsent);
        // This worker may be the last that has not refused a connection, or the last of all: waiting connections are
        // dispatched again.
        self.wake_all();
    }

    /// The end of the worker's channel was read: the worker is dead, or has disconnected. It has not read from the
    /// connections that it has not answered for, and cannot any more, so they go to others.
    pub(crate) fn ended(&mut self, run: Run) {
        let Some(member) = self.members.get_mut(&run) else { return };
        if *member.life.borrow() == Life::Ended {
            return;
        }
        member.life.send_replace(Life::Ended);
        member.discard_queue();
        let pending = std::mem::take(&mut member.pending);
        self.balancer.leave(run);
        self.probes.retain(|probe| probe.run != run);
        self.remove_holder_everywhere(run);
        self.save();
        self.dispatch_all(pending);
        self.wake_all();
    }
}
