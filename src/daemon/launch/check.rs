//! Begins the health checks of a run: makes the check from the spec, and for a check by command the environment, user and
//! limits of the worker.

use std::sync::Arc;

use super::super::clusters::Clusters;
use super::super::moment;
use super::super::runs::Runs;
use super::super::runs::health::{CommandCheck, Exec, HealthCheck};
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
    /// Checks the health of a run from now on, if its app has a check that is made repeatedly.
    pub fn check_health(&self, run: Run, supervisor: &Supervisor, clusters: &Clusters, runs: &mut Runs) {
        if let Some((check, health)) = self.health_check(run, supervisor, clusters, &runs.table) {
            runs.checks.begin(run, check, &health);
        }
    }

    /// `None` if the app has no check, or waits for a line in the output.
    fn health_check(
        &self,
        run: Run,
        supervisor: &Supervisor,
        clusters: &Clusters,
        table: &RunTable,
    ) -> Option<(HealthCheck, Health)> {
        let process = supervisor.process_of(run)?;
        let app = supervisor.app(process.app)?;
        let health = app.spec.health.clone()?;
        let cluster = clusters.get(app.id).cloned();
        let check = match health.probe.clone() {
            Probe::Tcp { address } => HealthCheck::Tcp { cluster, address },
            // At an address that the app is given, a connection waits as long as the run is not ready.
            Probe::Http { address, path } => match address.filter(|address| !app.spec.is_given(address)) {
                Some(address) => HealthCheck::Http { cluster, address, path },
                None => HealthCheck::Own { cluster, run, path },
            },
            Probe::Exec(command) => {
                let check = self.command_check(run, process, &app.spec, command, table)?;
                HealthCheck::Exec(Box::new(Exec::new(check)))
            }
            Probe::Log(_) => return None,
        };
        Some((check, health))
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
