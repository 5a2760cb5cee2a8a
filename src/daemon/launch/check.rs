//! Begins the health checks of a run: what is to be asked, and for a check by command what the command needs to stand
//! where the worker stands.

use std::sync::Arc;

use super::super::clusters::Clusters;
use super::super::moment;
use super::super::runs::Runs;
use super::super::runs::health::{CommandCheck, Exec, Question};
use super::super::runs::table::RunTable;
use super::environment::Setting;
use super::{Launcher, confine, environment};
use crate::os::cgroup::Limits;
use crate::os::process::identity;
use crate::protocol::Run;
use crate::spec::health::{Command, Probe};
use crate::spec::{AppSpec, Health};
use crate::supervisor::{Process, Supervisor};

impl Launcher {
    /// Checks the health of a run from now on, if its app wants that and the check is a question.
    pub fn check_health(&self, run: Run, supervisor: &Supervisor, clusters: &Clusters, runs: &mut Runs) {
        if let Some((question, health)) = self.question(run, supervisor, clusters, &runs.table) {
            runs.checks.begin(run, question, &health);
        }
    }

    fn question(
        &self,
        run: Run,
        supervisor: &Supervisor,
        clusters: &Clusters,
        table: &RunTable,
    ) -> Option<(Question, Health)> {
        let process = supervisor.process_of(run)?;
        let app = supervisor.app(process.app)?;
        let health = app.spec.health.clone()?;
        let cluster = clusters.get(app.id).cloned();
        let question = match health.probe.clone() {
            Probe::Tcp { address } => Question::Tcp { cluster, address },
            // At an address that it is given, a run that is not ready does not answer: the connection would wait.
            Probe::Http { address, path } => match address.filter(|address| !app.spec.is_given(address)) {
                Some(address) => Question::Http { cluster, address, path },
                None => Question::Own { cluster, run, path },
            },
            Probe::Exec(command) => {
                let check = self.command_check(run, process, &app.spec, command, table)?;
                Question::Exec(Box::new(Exec::new(check)))
            }
            Probe::Log(_) => return None,
        };
        Some((question, health))
    }

    /// `None` if the run is not alive.
    fn command_check(
        &self,
        run: Run,
        process: &Process,
        spec: &Arc<AppSpec>,
        command: Command,
        table: &RunTable,
    ) -> Option<CommandCheck> {
        let live = table.get(run)?;
        let rules = &spec.confinement;
        // The account was found for the start of the run. If that fails now, the check has the same reason to fail.
        let account = identity::account(rules.user.as_deref(), rules.group.as_deref()).ok()?;
        let (logs, pid_file) = environment::files(&self.home, spec, process);
        let now = moment::wall(process.started.unwrap_or(process.created));
        let setting = Setting { spec, process, home: self.home.root(), logs: &logs, pid_file: &pid_file, now };
        let mut env = environment::of_check(&setting, &table.mark(run), live.pid);
        confine::set_account_variables(account.as_ref(), &mut env, &spec.env);
        let limits = Limits { memory: rules.memory, cpu: rules.cpu, pids: rules.pids };
        Some(CommandCheck {
            command,
            spec: Arc::clone(spec),
            env,
            account,
            rlimits: confine::rlimits(rules, self.file_limit),
            group: self.cgroups.create_beside(run.0, &limits),
            worker: (live.pid, live.start),
        })
    }
}
