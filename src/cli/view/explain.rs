//! The page of `explain`: the state of an app, what comes next, how its processes ended and why, who requested what,
//! and its last output.

use std::time::Duration;

use super::describe::listener_words;
use super::history::Names;
use super::quantity::{span, uptime};
use super::{TITLE, Terminal, exit_words};
use crate::protocol::info::EpochMs;
use crate::protocol::{Description, Event, EventKind, Exit, ProcessInfo, Stage, Status, UnderWay};
use crate::spec::health::OnFail;
use crate::spec::{AppSpec, RestartRule};

/// Number of exits and of requests that are shown.
const SHOWN: usize = 5;

/// The data of an app for its page.
pub struct AppRecord<'a> {
    /// Its processes.
    pub processes: &'a [Description],
    /// Its events, oldest first.
    pub events: &'a [Event],
    /// The last lines of its error logs, by file.
    pub last_output: &'a [(String, Vec<String>)],
    /// The present time.
    pub now: EpochMs,
}

/// The page; empty without processes.
#[must_use]
pub fn text(record: &AppRecord<'_>, names: &Names<'_>, terminal: Terminal) -> String {
    let Some(first) = record.processes.first() else { return String::new() };
    let count = record.processes.len();
    let es = if count == 1 { "" } else { "es" };
    let mut page = Page { terminal, lines: Vec::new() };
    page.title(&format!("{} · {} · {count} process{es}", first.info.name, first.info.mode.word()));
    for one in record.processes {
        page.lines.extend(state(one, record, names));
    }
    page.section("Last exits", ends(record.events, names));
    page.section("Requests", requests(record.events, names));
    page.section("Listens on", listeners(first));
    let warnings = first.spec.warnings();
    page.section("Warnings", warnings.iter().map(|why| format!("  {why}")).collect());
    page.section("Connections", record.processes.iter().filter_map(connections).collect());
    for (file, lines) in record.last_output {
        page.section(&format!("Last lines of {file}"), without_repetitions(lines));
    }
    page.lines.push(format!("`pmr history {0}` shows more events, `pmr describe {0}` the settings", first.info.name));
    page.lines.join("\n")
}

struct Page {
    terminal: Terminal,
    lines: Vec<String>,
}

impl Page {
    fn title(&mut self, text: &str) {
        self.lines.push(self.terminal.paint(TITLE, text));
    }

    fn section(&mut self, title: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            self.title(title);
            self.lines.extend(lines);
        }
    }
}

fn state(one: &Description, record: &AppRecord<'_>, names: &Names<'_>) -> Vec<String> {
    let info = &one.info;
    let since = match (info.status, info.started_at) {
        (Status::Online | Status::Unhealthy | Status::Launching, Some(at)) => {
            format!(" for {}", uptime(Duration::from_millis(record.now.saturating_sub(at))))
        }
        _ => String::new(),
    };
    let pid = info.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    let mut lines = vec![format!(
        "  process {}: {}{since}{pid}, {}",
        info.id,
        info.status.word(),
        counted(info.restarts, "restart")
    )];
    lines.extend(why(one, record.events, names));
    let exit = info.last_exit.filter(|_| {
        !matches!(info.status, Status::Online | Status::Completed) && !was_requested(info.id, record.events)
    });
    if let Some((exit, meaning)) = exit.and_then(|exit| Some((exit, meaning(exit)?))) {
        lines.push(format!("    {} usually means: {meaning}", exit_words(exit)));
    }
    lines.extend(one.under_way.as_ref().map(|work| format!("    now: {}", doing(work, &info.name))));
    lines.push(format!("    next: {}", next(info, &one.spec, record)));
    lines
}

/// The operation that concerns the process, and how far it is.
fn doing(work: &UnderWay, name: &str) -> String {
    let verb = &work.verb;
    match &work.stage {
        Stage::Waits { held: Some(held) } => format!("a {verb} {held}"),
        Stage::Waits { held: None } => format!("a {verb} waits for the current operation"),
        Stage::Later => format!("a {verb} is under way, and has not reached this process"),
        Stage::Now => format!("a {verb} of this process is under way"),
        Stage::Watched { left_ms: None } => format!("a {verb} is under way: its canaries become ready"),
        Stage::Watched { left_ms: Some(left) } => {
            let left = span(Duration::from_millis(left.next_multiple_of(1000)));
            format!(
                "a {verb} is under way: the canary of {name} is observed for another {left}; then the rest follows, or it is rolled back"
            )
        }
    }
}

/// The reason for the state. A process that serves needs none; its last reason is about a successor that failed.
fn why(one: &Description, events: &[Event], names: &Names<'_>) -> Option<String> {
    let info = &one.info;
    let why = match (info.status, &info.fault, &info.reason) {
        // The line about the operation names what it waits for.
        (Status::Online, _, _) if one.under_way.as_ref().is_some_and(UnderWay::waits_for_another) => return None,
        (Status::Online, _, Some(reason)) => return Some(format!("    its successor failed: {reason}")),
        (Status::Unhealthy, Some(fault), _) => Some(fault.clone()),
        (_, _, reason) => reason.clone().or_else(|| stopped_by(info.status, info.id, events, names)),
    };
    why.map(|why| format!("    why: {why}"))
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

impl AppRecord<'_> {
    fn events_of(&self, id: u32) -> Vec<&Event> {
        of(self.events, id).collect()
    }
}

fn of(events: &[Event], id: u32) -> impl DoubleEndedIterator<Item = &Event> {
    events.iter().filter(move |event| event.process.as_ref().is_some_and(|process| process.id == id))
}

/// True if the last exit was requested, by a user or by pmr.
fn was_requested(id: u32, events: &[Event]) -> bool {
    of(events, id).rev().find_map(|event| ended(&event.kind)).is_some_and(|(_, expected)| expected)
}

fn ended(kind: &EventKind) -> Option<(Exit, bool)> {
    let EventKind::Exited { exit, expected } = kind else { return None };
    Some((*exit, *expected))
}

/// Why a process is stopped that has no reason of its own.
fn stopped_by(status: Status, id: u32, events: &[Event], names: &Names<'_>) -> Option<String> {
    if !matches!(status, Status::Stopped | Status::Stopping) {
        return None;
    }
    let of_it: Vec<&Event> = of(events, id).collect();
    let last = of_it.iter().enumerate().rev().find_map(|(at, event)| Some((at, ended(&event.kind)?)));
    match last {
        Some((_, (exit, false))) if status == Status::Stopping => {
            Some(format!("it ended by itself ({}), and its remaining child processes are stopped", exit_words(exit)))
        }
        Some((_, (exit, false))) => Some(format!("its exit ({}) was final by its settings", exit_words(exit))),
        Some((at, (_, true))) => cause(&of_it[..at], names),
        None => cause(&of_it, names),
    }
}

/// The cause of the exit that came after these events of a process.
fn cause(before: &[&Event], names: &Names<'_>) -> Option<String> {
    // `Idle` is recorded after an exit and is no cause of a later one.
    let is_cause = |event: &&&Event| {
        matches!(
            event.kind,
            EventKind::Requested { .. }
                | EventKind::Unhealthy { .. }
                | EventKind::RollingBack { .. }
                | EventKind::NotReplaced { .. }
                | EventKind::TakenBack
                | EventKind::OverMemory { .. }
                | EventKind::Hung { .. }
        )
    };
    let last = before.iter().rev().find(is_cause)?;
    Some(format!("{} ({})", super::history::words(&last.kind, names), names.time(last.at)))
}

/// What happens next without a request, or what the user can do.
fn next(info: &ProcessInfo, spec: &AppSpec, record: &AppRecord<'_>) -> String {
    let name = &info.name;
    match info.status {
        Status::Unhealthy => {
            let rotation = match (info.out_of_rotation, spec.checks_each_worker()) {
                (true, _) => "out of rotation: the other workers get its connections until it passes again; ",
                (false, true) => "it continues to serve, because no other worker is healthy; ",
                (false, false) => "",
            };
            let follows = match spec.health.as_ref().map(|health| health.on_fail) {
                Some(OnFail::Restart) | None => {
                    "it is replaced, unless it passes its check before; if the replacement fails, it is tried again later"
                }
                Some(OnFail::Alert | OnFail::None) => "it is not replaced, as its `on_fail` says",
            };
            format!("{rotation}{follows}")
        }
        Status::Online => format!("it keeps running; if it exits, {}", after_exit(&spec.restart)),
        Status::Launching => match spec.readiness.listen_timeout {
            Some(timeout) if !is_older(info, timeout, record.now) => {
                format!("pmr waits until it is ready, {} at most", span(timeout))
            }
            Some(_) | None => "pmr waits until it is ready".into(),
        },
        Status::Stopping => {
            format!("SIGKILL if it has not ended {} after its stop signal", span(spec.stop.kill_timeout))
        }
        Status::Completed => format!("nothing: it is completed; `pmr start {name}` runs it again"),
        Status::Waiting => "it is started when the apps it depends on allow it".into(),
        Status::Stopped => format!("nothing, until `pmr start {name}`"),
        Status::Idle => "the next connection starts it".into(),
        Status::WaitingRestart => match record.events_of(info.id).iter().rev().find_map(|event| wait(&event.kind)) {
            Some(delay) => format!("it starts again {} after its last exit", span(delay)),
            None => "it starts again soon".into(),
        },
        Status::Errored => format!("nothing: fix the error, then `pmr restart {name}`"),
    }
}

/// True if the process was started longer ago than `time`: the start has stopped waiting, and the process may still
/// become ready.
fn is_older(info: &ProcessInfo, time: Duration, now: EpochMs) -> bool {
    info.started_at.is_some_and(|at| u128::from(now.saturating_sub(at)) > time.as_millis())
}

fn wait(kind: &EventKind) -> Option<Duration> {
    let EventKind::WaitingRestart { delay_ms } = kind else { return None };
    Some(Duration::from_millis(*delay_ms))
}

fn after_exit(rule: &RestartRule) -> String {
    if !rule.autorestart {
        return "it stays down (autorestart is off)".into();
    }
    let when = match rule.backoff {
        Some(first) => format!("after {}, then longer each time", span(first)),
        None if rule.delay.is_zero() => "at once".into(),
        None => format!("after {}", span(rule.delay)),
    };
    let given_up = format!("given up after {} exits sooner than {}", rule.max_restarts, span(rule.min_uptime));
    let codes = rule.stop_exit_codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let codes = if codes.is_empty() { codes } else { format!("; not after code {codes}") };
    format!("it is restarted {when} ({given_up}{codes})")
}

/// The last exits of its processes, each with its cause.
fn ends(events: &[Event], names: &Names<'_>) -> Vec<String> {
    let exits = events.iter().enumerate().filter_map(|(at, event)| {
        let (exit, expected) = ended(&event.kind)?;
        Some((at, event, exit, expected, event.process.as_ref()?.id))
    });
    let mut lines: Vec<String> = exits
        .rev()
        .take(SHOWN)
        .map(|(at, event, exit, expected, id)| {
            let before: Vec<&Event> = of(&events[..at], id).collect();
            let then = of(&events[at + 1..], id).next().map(|next| &next.kind);
            let why = if let Some(rest @ EventKind::Idle) = then {
                Some(super::history::words(rest, names))
            } else if expected {
                cause(&before, names)
            } else if matches!(then, Some(EventKind::Completed)) {
                Some("it was completed".to_owned())
            } else {
                meaning(exit).map(str::to_owned)
            };
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!(
                "  {}  process {id}, {}{}{why}",
                names.time(event.at),
                exit_words(exit),
                lived(&before, event, expected)
            )
        })
        .collect();
    lines.reverse();
    lines
}

/// How long a run lived that ended without a request.
fn lived(before: &[&Event], end: &Event, expected: bool) -> String {
    let started = before.iter().rev().find(|event| matches!(event.kind, EventKind::Started { .. }));
    match started {
        Some(started) if !expected => {
            format!(" after {}", span(Duration::from_millis(end.at.saturating_sub(started.at))))
        }
        _ => String::new(),
    }
}

fn requests(events: &[Event], names: &Names<'_>) -> Vec<String> {
    // One command for many processes is shown once.
    let mut requests: Vec<(EpochMs, String)> = Vec::new();
    for event in events {
        if matches!(event.kind, EventKind::Requested { .. }) {
            let words = super::history::words(&event.kind, names);
            if requests.last().is_none_or(|(_, last)| *last != words) {
                requests.push((event.at, words));
            }
        }
    }
    let last = requests.len().saturating_sub(SHOWN);
    requests[last..].iter().map(|(at, words)| format!("  {}  {words}", names.time(*at))).collect()
}

fn listeners(one: &Description) -> Vec<String> {
    one.listeners.iter().map(|listener| format!("  {}", listener_words(listener))).collect()
}

/// The connections of one process, where they can be counted.
fn connections(one: &Description) -> Option<String> {
    let words = match one.load {
        Some((waiting, open)) => format!("{waiting} waiting, {open} open"),
        None if one.listeners.is_empty() => return None,
        None => format!("{} handled so far", one.connections),
    };
    Some(format!("  process {}: {words}", one.info.id))
}

/// Merges repeated lines: a crash loop prints the same lines again and again.
fn without_repetitions(lines: &[String]) -> Vec<String> {
    let runs = lines.chunk_by(|one, next| one == next);
    let shown = |run: &[String]| match run.len() {
        1 => format!("  {}", run[0]),
        times => format!("  {}  ({times} times)", run[0]),
    };
    runs.map(shown).collect()
}

/// The usual meaning of an exit, if there is more to say than its number. Sources: the shells' manuals (126 and up),
/// `sysexits.h`, Node's list of its exit codes, `signal(7)`.
#[must_use]
pub fn meaning(exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::Code(code) => match code {
            0 => Some(
                "it had nothing more to do; a server that ends so did not listen, closed its listener, or went to the background: it must run in the foreground",
            ),
            1 => Some("the program reported an error; its last output shows which"),
            2 => Some("wrong arguments, or a syntax error in the script"),
            7 => Some("in Node: an error inside the handler of uncaught exceptions"),
            9 => Some("in Node: an unknown option"),
            12 => Some("in Node: the debugger's port is taken"),
            13 => Some("in Node: an `await` at the top level that never ended"),
            78 => Some("its configuration is wrong"),
            126 => Some("it was found, but may not be executed"),
            127 => Some("a command was not found: check PATH"),
            129..=159 => Some("a child of its shell was killed by the signal that is this number less 128"),
            _ => None,
        },
        Exit::Signal(signal) => match signal {
            libc::SIGKILL => {
                Some("killed from outside: by an administrator, or by the kernel because memory was short")
            }
            libc::SIGSEGV | libc::SIGBUS => Some("a fault in native code: an addon, or the interpreter itself"),
            libc::SIGABRT => Some("it aborted: a failed assertion, or in Node no more heap (--max-old-space-size)"),
            libc::SIGILL | libc::SIGTRAP => Some("built for another processor, or an assertion in native code"),
            libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT => {
                Some("another program than pmr asked it to end")
            }
            libc::SIGPIPE => Some("it wrote to a connection that had been closed"),
            libc::SIGXFSZ | libc::SIGXCPU => Some("it met a limit of its user (ulimit)"),
            libc::SIGSYS => Some("it called something that a filter forbids"),
            _ => None,
        },
        Exit::Unknown => Some("it ended while no daemon ran"),
        Exit::OutOfMemory { .. } => Some("raise its `memory` limit, or find its leak"),
    }
}

#[cfg(test)]
mod tests;
