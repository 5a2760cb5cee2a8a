//! The steps of the demo: a cluster under load is started, scaled, reloaded, hit with a kill -9, and scaled down.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::load::{Load, LoadReport, Loss, LostRequest, Plan};
use super::table::{Step, share_bars};
use super::worker;
use crate::cli::client::Client;
use crate::cli::failure::{Doing, Failure};
use crate::cli::ui::Ui;
use crate::paths::Home;
use crate::protocol::{
    Action, Changes, Event, EventKind, Launch, ProcessInfo, Report, Rollout, Scale, Status, Verdict,
};
use crate::spec::target::Selector;
use crate::spec::{AppSpec, Env, ExecMode, Program};

const NAME: &str = "demo";
/// How long the load runs after each step, to measure its distribution over the workers.
const OBSERVATION: Duration = Duration::from_millis(1200);
/// Limit for the replacement of the killed worker, which takes milliseconds.
const REPLACEMENT_LIMIT: Duration = Duration::from_secs(10);
/// Limit for each other step, which takes well under a second: a daemon that takes longer hangs.
const STEP_LIMIT: Duration = Duration::from_secs(20);
/// How often the list is requested, in case an event was missed.
const POLL: Duration = Duration::from_millis(500);
/// A request that was sent within this time after the death of its worker was sent before the client could notice the
/// death.
const NOTICE_DELAY: Duration = Duration::from_millis(100);

/// Runs all steps and returns the result of each.
pub(super) async fn run(client: &Client, home: &Home, ui: Ui) -> Result<Vec<Step>, Failure> {
    let few = processors().max(2);
    let many = few + 2;
    let mut scenario = Scenario::start(client, home, ui, few).await?;
    scenario.info(&format!("2/5  scale to {many} workers"));
    scenario.command(format!("scale to {many}"), Action::Scale(Scale::To(many))).await?;
    scenario.info(&format!("3/5  reload: replace all {many} workers, one after another"));
    let reload = Action::Reload { changes: Changes::default(), rollout: Rollout::waves(1) };
    scenario.command(format!("reload all {many}"), reload).await?;
    scenario.kill_one().await?;
    scenario.info(&format!("5/5  scale down to {few} workers"));
    scenario.command(format!("scale down to {few}"), Action::Scale(Scale::To(few))).await?;
    Ok(scenario.finish())
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// State of the running demo.
struct Scenario<'a> {
    client: &'a Client,
    home: &'a Home,
    ui: Ui,
    load: Load,
    /// The report at the end of the last step, and its time.
    counted: (LoadReport, Instant),
    steps: Vec<Step>,
}

impl<'a> Scenario<'a> {
    /// Starts the workers, then the load.
    async fn start(client: &'a Client, home: &'a Home, ui: Ui, workers: u32) -> Result<Scenario<'a>, Failure> {
        ui.info(&format!("1/5  start {workers} workers of a small web server that is built into pmr"));
        let started = Instant::now();
        succeeds(client.launch(vec![app(workers)?], Launch::New)).await?;
        let took = started.elapsed();
        let at = address(client).await?;
        let plan = Plan { think: Duration::from_millis(1), ..Plan::default() };
        ui.info(&format!("     they share {at}"));
        ui.info(&format!(
            "     load until the end: {} clients that keep their connection, {} that open one per request",
            plan.keep_alive, plan.fresh
        ));
        let load = Load::start(at, plan).doing(|| "starting the load".into())?;
        let counted = (LoadReport::default(), Instant::now());
        let mut scenario = Scenario { client, home, ui, load, counted, steps: Vec::new() };
        scenario.record(format!("start {workers}"), took, None).await?;
        let bars = scenario.steps.first().map(|step| share_bars(&step.requests_by_pid)).unwrap_or_default();
        bars.iter().for_each(|bar| scenario.info(&format!("     {bar}")));
        Ok(scenario)
    }

    fn info(&self, text: &str) {
        self.ui.info(text);
    }

    /// Runs a step that is one command.
    async fn command(&mut self, what: String, action: Action) -> Result<(), Failure> {
        let started = Instant::now();
        succeeds(self.client.act(action, vec![Selector::Word(NAME.to_owned())])).await?;
        self.record(what, started.elapsed(), None).await
    }

    /// Kills a worker: the only step that may lose requests, those inside the worker.
    async fn kill_one(&mut self) -> Result<(), Failure> {
        let victim = self.client.list().await?.into_iter().find_map(|info| Some((info.id, info.pid?)));
        let (id, pid) = victim.ok_or_else(|| Failure::new("no worker is left to be killed"))?;
        self.info(&format!("4/5  kill -9 {pid}: one of the workers, in the middle of its work"));
        let events = UnixStream::connect(self.home.pub_sock()).await.doing(|| "subscribing to events".into())?;
        let killed = Instant::now();
        let target = Pid::from_raw(pid).ok_or_else(|| Failure::new("a worker has no pid"))?;
        kill_process(target, Signal::KILL).map_err(std::io::Error::from).doing(|| format!("killing {pid}"))?;
        let dead = Instant::now();
        self.wait_for_replacement(events, id, pid).await?;
        let worker = KilledWorker { pid: pid.to_string(), killed, dead };
        self.record("kill -9 of one".to_owned(), killed.elapsed(), Some(worker)).await
    }

    /// Waits until the successor of process `id` is ready.
    async fn wait_for_replacement(&self, events: UnixStream, id: u32, old: i32) -> Result<(), Failure> {
        let mut events = BufReader::new(events).lines();
        let replaced = async {
            loop {
                match timeout(POLL, events.next_line()).await {
                    Ok(Ok(Some(line))) if is_online(&line, id) => return Ok(()),
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None) | Err(_)) => return Err(Failure::new("the demo's daemon is gone")),
                    // The event may have come before the subscription.
                    Err(_) => {
                        let is_new = |info: &ProcessInfo| info.id == id && info.pid.is_some_and(|pid| pid != old);
                        let mut all = self.client.list().await?.into_iter();
                        if all.any(|info| is_new(&info) && info.status == Status::Online) {
                            return Ok(());
                        }
                    }
                }
            }
        };
        let late = || Failure::new(format!("the killed worker was not replaced in {} s", REPLACEMENT_LIMIT.as_secs()));
        timeout(REPLACEMENT_LIMIT, replaced).await.map_err(|_| late())?
    }

    /// Lets the load run for a while, and records the result of the step.
    async fn record(&mut self, what: String, took: Duration, killed: Option<KilledWorker>) -> Result<(), Failure> {
        let pids: Vec<String> =
            self.client.list().await?.iter().filter_map(|info| info.pid).map(|pid| pid.to_string()).collect();
        let at_end = self.load.report();
        sleep(OBSERVATION).await;
        let (report, now) = (self.load.report(), Instant::now());
        let observed = report.since(&at_end);
        let of_each = |counts: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
            pids.iter().map(|pid| (pid.clone(), counts.get(pid).copied().unwrap_or(0))).collect()
        };
        let since = report.since(&self.counted.0);
        self.steps.push(Step {
            what,
            took,
            length: now - self.counted.1,
            inside: killed.map_or(0, |worker| worker.lost_inside(&since.losses)),
            counts: since.all(),
            requests_by_pid: of_each(&observed.all().workers),
            connections_by_pid: of_each(&observed.fresh.workers),
        });
        self.counted = (report, now);
        Ok(())
    }

    /// Ends the load. Requests that were under way at the end of the last step belong to it.
    fn finish(self) -> Vec<Step> {
        let rest = self.load.stop().since(&self.counted.0).all();
        let mut steps = self.steps;
        if let Some(last) = steps.last_mut() {
            last.counts += &rest;
        }
        steps
    }
}

/// The worker that was killed.
struct KilledWorker {
    pid: String,
    /// Just before the signal: the worker lived until then, or longer.
    killed: Instant,
    /// Just after the signal, and later if this thread had to wait: the worker was dead by then.
    dead: Instant,
}

impl KilledWorker {
    /// Number of these requests that were inside the worker: sent to it, or under way at that moment to an unknown
    /// worker, and cut off. Refused or hanging requests are never excused.
    fn lost_inside(&self, losses: &[LostRequest]) -> u64 {
        let inside = |lost: &&LostRequest| {
            matches!(lost.loss, Loss::Reset | Loss::Truncated)
                && lost.noticed >= self.killed
                && lost.sent <= self.dead + NOTICE_DELAY
                && lost.worker.as_ref().is_none_or(|worker| *worker == self.pid)
        };
        losses.iter().filter(inside).count() as u64
    }
}

fn is_online(line: &str, id: u32) -> bool {
    serde_json::from_str::<Event>(line)
        .is_ok_and(|event| event.kind == EventKind::Online && event.process.is_some_and(|process| process.id == id))
}

/// Waits for an operation. One that fails or hangs ends the demo.
async fn succeeds(operation: impl Future<Output = Result<Report, Failure>>) -> Result<(), Failure> {
    match timeout(STEP_LIMIT, operation).await {
        Ok(report) => check(&report?),
        Err(_) => Err(Failure::new(format!("the demo's daemon did not finish the step in {} s", STEP_LIMIT.as_secs()))),
    }
}

/// An error with the first failure in the report.
fn check(report: &Report) -> Result<(), Failure> {
    let bad = report.lines.iter().find_map(|line| match &line.verdict {
        Verdict::Done | Verdict::Planned { .. } => None,
        Verdict::RolledBack => Some(format!("{} of worker {} was rolled back", line.verb, line.id)),
        Verdict::Failed { reason, .. } | Verdict::NotBegun { reason, .. } => {
            Some(format!("{} of worker {}: {reason}", line.verb, line.id))
        }
        Verdict::Superseded { by } => Some(format!("{} of worker {}: superseded by `{by}`", line.verb, line.id)),
    });
    bad.map_or(Ok(()), |reason| Err(Failure::new(reason)))
}

/// The address on which the workers listen.
async fn address(client: &Client) -> Result<SocketAddr, Failure> {
    let all = client.describe_all().await?;
    let found = all.iter().flat_map(|process| &process.listeners).find_map(|listener| listener.address.parse().ok());
    found.ok_or_else(|| Failure::new("the workers are ready, but listen nowhere"))
}

/// The app: this very program as a worker.
fn app(instances: u32) -> Result<AppSpec, Failure> {
    let path = std::env::current_exe().doing(|| "finding this program's own file".into())?;
    let mut app = AppSpec {
        args: vec![worker::PERSONALITY.to_owned()],
        mode: ExecMode::Cluster,
        instances,
        env: Env::from([("PORT".to_owned(), "0".to_owned())]),
        ..AppSpec::new(NAME, Program::Binary { path }, "/".into())
    };
    app.set_base_env(Env::new());
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(loss: Loss, worker: Option<&str>, sent: Instant) -> LostRequest {
        let noticed = sent + Duration::from_millis(300);
        LostRequest { loss, worker: worker.map(str::to_owned), sent, noticed }
    }

    #[test]
    fn only_requests_inside_the_killed_worker_are_excused() {
        let killed = Instant::now() + Duration::from_secs(10);
        let before = killed - Duration::from_millis(5);
        let dead = killed + Duration::from_millis(300);
        let worker = KilledWorker { pid: "7".to_owned(), killed, dead };
        let excused = |lost: LostRequest| worker.lost_inside(&[lost]) == 1;
        assert!(excused(lost(Loss::Reset, Some("7"), before)));
        assert!(excused(lost(Loss::Truncated, None, before)));
        assert!(excused(lost(Loss::Reset, Some("7"), killed + Duration::from_millis(1))));
        assert!(excused(lost(Loss::Reset, Some("7"), dead - Duration::from_millis(1))), "it may have lived");
        assert!(!excused(lost(Loss::Reset, Some("8"), before)), "another worker's");
        assert!(!excused(lost(Loss::Refused, None, before)));
        assert!(!excused(lost(Loss::Hung, Some("7"), before)));
        assert!(!excused(lost(Loss::Reset, Some("7"), killed + Duration::from_secs(1))), "sent to the dead");
        assert!(!excused(lost(Loss::Reset, Some("7"), killed - Duration::from_secs(1))), "lost before");
    }
}
