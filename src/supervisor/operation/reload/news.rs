//! What came of each process of a reload, told to the client and to everybody: who reads on later why a release does not
//! serve has not seen what the client was told.

use super::{Kind, Operation};
use crate::protocol::{EventKind, Verdict};
use crate::supervisor::{AppId, Effect, ProcessId, Supervisor};

impl Supervisor {
    /// Tells what came of one process.
    pub(super) fn report_reloaded(
        &mut self,
        app: AppId,
        operation: &Operation,
        id: ProcessId,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        let verdict = match verdict {
            Verdict::Done if operation.transaction.restores() => Verdict::RolledBack,
            Verdict::Failed { reason, old_serves } if operation.transaction.restores() => {
                Verdict::Failed { reason: format!("not back on the release before: {reason}"), old_serves }
            }
            verdict => verdict,
        };
        effects.extend(news(&verdict).map(|kind| Effect::Publish { process: id, kind }));
        self.report(operation.ticket, app, id, Kind::Reload, verdict);
    }
}

/// What is worth telling of what came of one process: that it was replaced shows by its runs.
fn news(verdict: &Verdict) -> Option<EventKind> {
    match verdict {
        Verdict::Failed { reason, old_serves } => {
            Some(EventKind::NotReplaced { reason: reason.clone(), old_serves: *old_serves })
        }
        Verdict::RolledBack => Some(EventKind::TakenBack),
        Verdict::Done | Verdict::NotBegun { .. } | Verdict::Superseded { .. } | Verdict::Planned { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::protocol::{Action, Canary, Changes, EventKind, Exit, Rollout, Run, Share, Stage};
    use crate::spec::target::Selector;
    use crate::supervisor::harness::{Harness, cluster};
    use crate::supervisor::{Effect, Input, Request, Ticket};

    fn told(effects: Vec<Effect>) -> Vec<(u32, EventKind)> {
        let told = effects.into_iter().filter_map(|effect| {
            let Effect::Publish { process, kind } = effect else { return None };
            Some((process.0, kind))
        });
        told.filter(|(_, kind)| matches!(kind, EventKind::NotReplaced { .. } | EventKind::TakenBack)).collect()
    }

    #[test]
    fn who_reads_on_later_learns_why_the_release_does_not_serve() {
        let mut play = Harness::with(cluster(3));
        let action = Action::Reload { changes: Changes::default(), rollout: Rollout::waves(2) };
        let ask = Request::Act { action, target: vec![Selector::All] };
        play.supervisor.handle(play.now, Input::Request { ticket: Ticket(9), ask });
        let crash = Input::Exited { run: Run(4), exit: Exit::Code(1), survivors: false };
        let reason = "exited with code 1 before it was ready".to_owned();
        let failed = EventKind::NotReplaced { reason, old_serves: true };
        assert_eq!(told(play.supervisor.handle(play.now, crash)), [(0, failed), (1, EventKind::TakenBack)]);
    }

    #[test]
    fn how_far_it_is_can_be_asked() {
        let mut play = Harness::with(cluster(3));
        let watch = Canary { share: Share::Count(1), duration: Duration::from_secs(30) };
        let rollout = Rollout { canary: Some(watch), ..Rollout::waves(1) };
        let far = |play: &Harness| {
            [0, 1].map(|id| play.supervisor.under_way(play.now, play.process(id)).map(|work| (work.verb, work.stage)))
        };
        assert_eq!(far(&play), [None, None]);
        play.act(Action::Reload { changes: Changes::default(), rollout }, "api");
        let at = |stage| Some(("reload".to_owned(), stage));
        assert_eq!(far(&play), [at(Stage::Now), at(Stage::Later)]);
        play.ready(4);
        play.pass(10_000);
        assert_eq!(far(&play), [at(Stage::Watched { left_ms: Some(20_000) }), at(Stage::Later)]);
        play.pass(20_000);
        play.exit(1, 0);
        assert_eq!(far(&play), [None, at(Stage::Now)]);
    }
}
