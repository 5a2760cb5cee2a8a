//! A restore starts the apps that were running and nothing else. An app that was stopped stays stopped even if others
//! depend on it; these ran without it before.
//!
//! The exception is a job that another app needs to be completed. A job is down because it has done its work, and after
//! a boot the work has to be done again. So it is started, unless one of its own dependencies stays down.

use std::collections::BTreeSet;

use crate::spec::AppSpec;
use crate::spec::dependency::Condition;
use crate::supervisor::app::App;
use crate::supervisor::id::AppId;
use crate::supervisor::requests::Plan;
use crate::supervisor::state::Supervisor;

impl Supervisor {
    /// Removes from each of these starts the dependencies that stay down.
    pub(crate) fn do_without(&self, plan: &mut Plan) {
        let started: BTreeSet<AppId> = plan.iter().map(|(app, _)| *app).collect();
        for (app, operation) in plan {
            let spec = &self.apps[app].spec;
            operation.without = self.missing(spec, &started, &mut BTreeSet::new());
        }
    }

    /// The names of the dependencies that stay down. `way` holds the jobs between the first app and this one, so that a
    /// circle of jobs ends.
    fn missing(&self, spec: &AppSpec, started: &BTreeSet<AppId>, way: &mut BTreeSet<AppId>) -> BTreeSet<String> {
        let mut comes_back = |name: &str, condition| {
            let Some(app) = self.named(&spec.namespace, name) else { return false };
            if started.contains(&app.id) || self.is_wanted(app) {
                return true;
            }
            let is_job = condition == Condition::Completed && way.insert(app.id);
            let done_again = is_job && self.missing(&app.spec, started, way).is_empty();
            if is_job {
                way.remove(&app.id);
            }
            done_again
        };
        let missing = spec.depends_on.iter().filter(|(name, condition)| !comes_back(name, **condition));
        missing.map(|(name, _)| name.clone()).collect()
    }

    fn is_wanted(&self, app: &App) -> bool {
        self.members(app.id).any(|process| self.shall_run(process))
    }
}
