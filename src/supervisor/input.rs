//! What goes into the supervisor and what comes out of it.

use std::time::Duration;

use super::id::{AppId, ProcessId, Ticket};
use super::snapshot::Snapshot;
use crate::protocol::{Action, EventKind, Exit, Launch, Refusal, Report, Run};
use crate::spec::AppSpec;
use crate::spec::target::Selector;

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks for something; the answer is an [`Effect::Settle`] with the same ticket, now or later.
    Request {
        /// Names the answer.
        ticket: Ticket,
        /// The request, not validated yet by the supervisor.
        ask: Request,
    },
    /// The process of this run exists.
    Spawned {
        /// The run of [`Effect::Spawn`].
        run: Run,
    },
    /// The process of this run could not be made.
    SpawnFailed {
        /// The run of [`Effect::Spawn`]; nothing of it is alive.
        run: Run,
        /// The operating system's error text, or the shell's own where it refused the start.
        error: String,
        /// True if trying again cannot help: the program is missing or may not be executed.
        permanent: bool,
    },
    /// The run listens on an address that its app's processes share. [`Input::Ready`] follows.
    Listening {
        /// The run whose process bound the address.
        run: Run,
        /// Where: `[::]:3000`, `udp 0.0.0.0:53`, `/run/x.sock`.
        address: String,
    },
    /// The run reports that it is ready, or listens on a shared address.
    Ready {
        /// The run that became ready; reporting it twice does no harm.
        run: Run,
        /// What showed it: with `wait_ready`, listening is not enough.
        proof: Proof,
    },
    /// A bind or listen of the run failed. If the run exits later, this is part of the reason.
    ListenFailed {
        /// The run whose bind or listen failed.
        run: Run,
        /// The failed call and its cause, for the reason of a later exit.
        why: String,
    },
    /// The run has finished what it had (or its drain time is over).
    Drained {
        /// The run of [`Effect::Drain`].
        run: Run,
    },
    /// The main process of the run ended.
    Exited {
        /// The run whose main process was reaped.
        run: Run,
        /// The exit status; [`Exit::Unknown`] if no daemon saw the end.
        exit: Exit,
        /// True if other processes of its tree live on; [`Input::TreeExited`] follows when they are gone.
        survivors: bool,
    },
    /// The last process of the run's tree is gone.
    TreeExited {
        /// The run that may be forgotten: nothing is reported of it afterwards.
        run: Run,
    },
    /// The run's health was checked.
    Checked {
        /// The run that was probed.
        run: Run,
        /// What was wrong with it; `None`: it passed.
        fault: Option<Fault>,
    },
    /// Memory of the run's tree was measured.
    Sampled {
        /// The run whose tree was measured, at intervals set by the shell.
        run: Run,
        /// Resident memory of the tree, in bytes.
        memory: u64,
    },
    /// The run wrote more to standard error. Counted where
    /// [`Supervisor::judged_by_errors`](super::Supervisor::judged_by_errors) names it.
    StderrLines {
        /// The run that wrote them.
        run: Run,
        /// The number of lines since the last report for this run.
        lines: u32,
    },
    /// The run sent a watchdog ping, or a new daemon took it over. The watchdog timeout starts again.
    WatchdogPing {
        /// The run that is alive at this moment.
        run: Run,
    },
    /// The run reported that it hangs (`WATCHDOG=trigger`).
    WatchdogTrigger {
        /// The run that is to be restarted as hung.
        run: Run,
    },
    /// No client has been connected to the app for its idle timeout.
    Idle {
        /// The app whose activation sets the idle timeout.
        app: AppId,
    },
    /// Connections wait for the app, more than its processes take.
    Demand {
        /// The app; one of its idle processes starts.
        app: AppId,
    },
    /// What a daemon that died was to do for this run, its start or its stop signal, was done only now: its time counts
    /// from now.
    Delayed {
        /// The run, which is starting or stopping.
        run: Run,
    },
    /// The time of [`Supervisor::next_deadline`](super::Supervisor::next_deadline) has come.
    Tick,
}

/// What made a run ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It listens on a shared address.
    Listening,
    /// The worker sent `ready` on its channel.
    Message,
    /// The worker sent `READY=1` to `NOTIFY_SOCKET`.
    Notified,
}

/// What was wrong at a health check, in words, and whether the failure is certainly the worker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The failure of this run: no other worker can have answered the probe.
    Own(String),
    /// The failure of this run or of another: any worker of the app may have answered the probe, or this run could not
    /// be probed alone.
    Unattributed(String),
}

/// The requests of clients.
#[derive(Clone, Debug)]
pub enum Request {
    /// Bring apps up.
    Launch {
        /// The specs, validated by the client; unique by namespace and name.
        apps: Vec<AppSpec>,
        /// What to do with those that are known.
        how: Launch,
    },
    /// Act on processes.
    Act {
        /// What to do.
        action: Action,
        /// The selectors; one that matches nothing refuses the request as a whole.
        target: Vec<Selector>,
    },
    /// Bring back what was written down, but for apps that are here already.
    Restore(Snapshot),
    /// Stop everything; answer when all is down. From now on every other request is refused.
    ShutDown,
}

/// What the shell is to do. Effects are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start a process; answer with [`Input::Spawned`] or [`Input::SpawnFailed`].
    Spawn {
        /// The new run.
        run: Run,
        /// The process that the run belongs to.
        process: ProcessId,
    },
    /// The run is ready, or no longer to be passed over: it may be given what it serves.
    Admit {
        /// The run, which is ready.
        run: Run,
    },
    /// The run is unhealthy and others are not: where these serve, it is given nothing new until it is admitted again.
    Eject {
        /// The run, which stays alive and keeps the connections it has.
        run: Run,
    },
    /// Take the run out of rotation and let it finish what it has; answer with [`Input::Drained`].
    Drain {
        /// The run, whose main process lives.
        run: Run,
        /// For at most this long.
        grace: Duration,
    },
    /// Take the run out of rotation and send its stop signal or stop message, as its spec sets it.
    Terminate {
        /// The run; it gets this effect at most once from one daemon.
        run: Run,
    },
    /// SIGKILL to the whole tree of the run.
    Kill {
        /// The run; repeated every second while anything of its tree lives.
        run: Run,
    },
    /// Send a signal to the main process of the run.
    Signal {
        /// The run, whose main process lives.
        run: Run,
        /// The signal number of this machine.
        signal: i32,
    },
    /// The process is no longer in the list.
    ProcessRemoved {
        /// The id, which may be given again.
        process: ProcessId,
    },
    /// The run is ready: connections to the sockets it was given may go to it. [`Effect::Admit`] follows.
    Serve {
        /// The run, which became ready just now.
        run: Run,
    },
    /// The current run of the process has changed: its pid file has to name the new pid.
    UpdatePidFile {
        /// The process whose pid file is written.
        process: ProcessId,
    },
    /// A process of the app is idle: the app's addresses stay open without it, and the first connection is answered
    /// with [`Input::Demand`]. If they cannot be opened, the answer is [`Input::Demand`] at once: the process starts,
    /// and its failure says why.
    WatchForDemand {
        /// The app whose spec names the addresses.
        app: AppId,
    },
    /// Nothing of the app is wanted and nothing of it runs: its listeners close. While one of its processes is wanted,
    /// even if it failed, they stay open and connections wait.
    CloseListeners {
        /// The app, which stays in the list.
        app: AppId,
    },
    /// The app is no longer in the list: its listeners close.
    AppRemoved {
        /// The id, which is never given again.
        app: AppId,
    },
    /// Publish an event to the subscribers, the history and the log.
    Publish {
        /// The process that the event is about.
        process: ProcessId,
        /// The event; nothing but the event follows from it.
        kind: EventKind,
    },
    /// The answer to a request.
    Settle {
        /// The ticket of the request; each is settled once.
        ticket: Ticket,
        /// One line for each process touched, or why nothing was done.
        answer: Result<Report, Refusal>,
    },
}
