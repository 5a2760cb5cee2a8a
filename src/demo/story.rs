//! The story: a cluster under load is started, scaled, reloaded, hit with a kill -9, and scaled down.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::load::{Load, Loss, Lost, Plan, Tally};
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
/// How long load goes on after each step, to see how it spreads over the workers.
const CALM: Duration = Duration::from_millis(1200);
/// A killed worker is replaced in milliseconds; nobody waits longer than this to see it.
const REPLACED: Duration = Duration::from_secs(10);
/// Each other step takes well under a second; a daemon that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(20);
/// Should an event be missed, the list is asked this often.
const LOOK: Duration = Duration::from_millis(500);
/// What was sent to a process this soon after its death was sent before the client could know of it.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// Tells the whole story, and what came of each step.
pub(super) async fn tell(client: &Client, home: &Home, ui: Ui) -> Result<Vec<Step>, Failure> {
    let few = processors().max(2);
    let many = few + 2;
    let mut stage = Stage::open(client, home, ui, few).await?;
    stage.say(&format!("2/5  scale to {many} workers"));
    stage.act(format!("scale to {many}"), Action::Scale(Scale::To(many))).await?;
    stage.say(&format!("3/5  reload: replace all {many} workers, one after another"));
    let reload = Action::Reload { changes: Changes::default(), rollout: Rollout::waves(1) };
    stage.act(format!("reload all {many}"), reload).await?;
    stage.kill_one().await?;
    stage.say(&format!("5/5  scale down to {few} workers"));
    stage.act(format!("scale down to {few}"), Action::Scale(Scale::To(few))).await?;
    Ok(stage.close())
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

struct Stage<'a> {
    client: &'a Client,
    home: &'a Home,
    ui: Ui,
    load: Load,
    /// What was counted at the end of the last step, and when that was.
    counted: (Tally, Instant),
    steps: Vec<Step>,
}

impl<'a> Stage<'a> {
    /// Starts the workers, then the load.
    async fn open(client: &'a Client, home: &'a Home, ui: Ui, workers: u32) -> Result<Stage<'a>, Failure> {
        ui.say(&format!("1/5  start {workers} workers of a small web server that is built into pmr"));
        let started = Instant::now();
        done(client.launch(vec![app(workers)?], Launch::New)).await?;
        let took = started.elapsed();
        let at = address(client).await?;
        let plan = Plan { think: Duration::from_millis(1), ..Plan::default() };
        ui.say(&format!("     they share {at}"));
        ui.say(&format!(
            "     load until the end: {} clients that keep their connection, {} that open one per request",
            plan.keep_alive, plan.fresh
        ));
        let load = Load::start(at, plan).doing(|| "starting the load".into())?;
        let counted = (Tally::default(), Instant::now());
        let mut stage = Stage { client, home, ui, load, counted, steps: Vec::new() };
        stage.conclude(format!("start {workers}"), took, None).await?;
        let bars = stage.steps.first().map(|step| share_bars(&step.requests_by_pid)).unwrap_or_default();
        bars.iter().for_each(|bar| stage.say(&format!("     {bar}")));
        Ok(stage)
    }

    fn say(&self, text: &str) {
        self.ui.say(text);
    }

    /// A step that is one command.
    async fn act(&mut self, what: String, action: Action) -> Result<(), Failure> {
        let started = Instant::now();
        done(self.client.act(action, vec![Selector::Word(NAME.to_owned())])).await?;
        self.conclude(what, started.elapsed(), None).await
    }

    /// The step that hurts.
    async fn kill_one(&mut self) -> Result<(), Failure> {
        let victim = self.client.list().await?.into_iter().find_map(|info| Some((info.id, info.pid?)));
        let (id, pid) = victim.ok_or_else(|| Failure::new("no worker is left to be killed"))?;
        self.say(&format!("4/5  kill -9 {pid}: one of the workers, in the middle of its work"));
        let events = UnixStream::connect(self.home.pub_sock()).await.doing(|| "subscribing to events".into())?;
        let killed = Instant::now();
        let target = Pid::from_raw(pid).ok_or_else(|| Failure::new("a worker has no pid"))?;
        kill_process(target, Signal::KILL).map_err(std::io::Error::from).doing(|| format!("killing {pid}"))?;
        let dead = Instant::now();
        self.replaced(events, id, pid).await?;
        let victim = Victim { pid: pid.to_string(), killed, dead };
        self.conclude("kill -9 of one".to_owned(), killed.elapsed(), Some(victim)).await
    }

    /// Waits until another process of this id is ready.
    async fn replaced(&self, events: UnixStream, id: u32, old: i32) -> Result<(), Failure> {
        let mut events = BufReader::new(events).lines();
        let back = async {
            loop {
                match timeout(LOOK, events.next_line()).await {
                    Ok(Ok(Some(line))) if is_online(&line, id) => return Ok(()),
                    Ok(Ok(Some(_))) => {}
                    Ok(Ok(None) | Err(_)) => return Err(Failure::new("the demo's daemon is gone")),
                    // The subscription may have come too late for it.
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
        let late = || Failure::new(format!("the killed worker was not replaced in {} s", REPLACED.as_secs()));
        timeout(REPLACED, back).await.map_err(|_| late())?
    }

    /// Lets the load go on for a while, and writes down what came of the step.
    async fn conclude(&mut self, what: String, took: Duration, victim: Option<Victim>) -> Result<(), Failure> {
        let pids: Vec<String> =
            self.client.list().await?.iter().filter_map(|info| info.pid).map(|pid| pid.to_string()).collect();
        let at_work = self.load.tally();
        sleep(CALM).await;
        let (tally, now) = (self.load.tally(), Instant::now());
        let calm = tally.since(&at_work);
        let of_each = |counts: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
            pids.iter().map(|pid| (pid.clone(), counts.get(pid).copied().unwrap_or(0))).collect()
        };
        let since = tally.since(&self.counted.0);
        self.steps.push(Step {
            what,
            took,
            length: now - self.counted.1,
            inside: victim.map_or(0, |victim| victim.took_along(&since.losses)),
            counts: since.all(),
            requests_by_pid: of_each(&calm.all().workers),
            connections_by_pid: of_each(&calm.fresh.workers),
        });
        self.counted = (tally, now);
        Ok(())
    }

    /// Ends the load. Requests that were on their way at the end of the last step belong to it.
    fn close(self) -> Vec<Step> {
        let rest = self.load.stop().since(&self.counted.0).all();
        let mut steps = self.steps;
        if let Some(last) = steps.last_mut() {
            last.counts += &rest;
        }
        steps
    }
}

/// A worker that was killed.
struct Victim {
    pid: String,
    /// It lived until then, or longer.
    killed: Instant,
    /// It was dead then, or earlier: this thread may have had to wait in between.
    dead: Instant,
}

impl Victim {
    /// How many of these requests were inside it: sent to it, or under way at that moment to a worker unknown, and cut
    /// off. Refused or hanging requests are nobody's fault but ours.
    fn took_along(&self, losses: &[Lost]) -> u64 {
        let inside = |lost: &&Lost| {
            matches!(lost.loss, Loss::Reset | Loss::Truncated)
                && lost.noticed >= self.killed
                && lost.sent <= self.dead + LAST_BREATH
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
async fn done(operation: impl Future<Output = Result<Report, Failure>>) -> Result<(), Failure> {
    match timeout(LONGEST, operation).await {
        Ok(report) => check(&report?),
        Err(_) => Err(Failure::new(format!("the demo's daemon did not do it in {} s", LONGEST.as_secs()))),
    }
}

/// The first reason why a report is not all done.
fn check(report: &Report) -> Result<(), Failure> {
    let bad = report.lines.iter().find_map(|line| match &line.verdict {
        Verdict::Done | Verdict::Planned { .. } => None,
        Verdict::RolledBack => Some(format!("{} of worker {} was taken back", line.verb, line.id)),
        Verdict::Failed { reason, .. } | Verdict::NotBegun { reason, .. } => {
            Some(format!("{} of worker {}: {reason}", line.verb, line.id))
        }
        Verdict::Superseded { by } => Some(format!("{} of worker {}: `{by}` came between", line.verb, line.id)),
    });
    bad.map_or(Ok(()), |reason| Err(Failure::new(reason)))
}

/// Where the workers listen.
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

    fn lost(loss: Loss, worker: Option<&str>, sent: Instant) -> Lost {
        let noticed = sent + Duration::from_millis(300);
        Lost { loss, worker: worker.map(str::to_owned), sent, noticed }
    }

    #[test]
    fn only_what_was_cut_off_in_the_killed_worker_is_excused() {
        let killed = Instant::now() + Duration::from_secs(10);
        let before = killed - Duration::from_millis(5);
        let dead = killed + Duration::from_millis(300);
        let victim = Victim { pid: "7".to_owned(), killed, dead };
        let excused = |lost: Lost| victim.took_along(&[lost]) == 1;
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
