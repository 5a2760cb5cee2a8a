//! What is brought back is what was running, and nothing besides: what a person had stopped stays so, though others depend
//! on it, and these did without it before.
//!
//! A job that another app needs to be completed is the exception. To be down is how it is when it has done its work, which
//! is to be done again: this is another boot. That holds unless it needs something itself that does not come back.

use std::collections::BTreeSet;

use crate::spec::AppSpec;
use crate::spec::dependency::Condition;
use crate::supervisor::app::App;
use crate::supervisor::id::AppId;
use crate::supervisor::requests::Plan;
use crate::supervisor::state::Supervisor;

impl Supervisor {
    /// Lets each of these starts do without what does not come back.
    pub(crate) fn do_without(&self, plan: &mut Plan) {
        let started: BTreeSet<AppId> = plan.iter().map(|(app, _)| *app).collect();
        for (app, operation) in plan {
            let spec = &self.apps[app].spec;
            operation.without = self.missing(spec, &started, &mut BTreeSet::new());
        }
    }

    /// The names of what it depends on and will not have. `way` are the jobs that led here: none needs itself.
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
