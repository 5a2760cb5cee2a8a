//! Why an app is as it is, on one page: what it does now and what comes next, how its processes ended and why, who
//! asked for what, its last words.

use std::time::Duration;

use super::describe::listener_words;
use super::history::Names;
use super::quantity::{span, uptime};
use super::{Look, TITLE, exit_words};
use crate::protocol::info::EpochMs;
use crate::protocol::{Description, Event, EventKind, Exit, ProcessInfo, Stage, Status, UnderWay};
use crate::spec::health::OnFail;
use crate::spec::{AppSpec, RestartRule};

/// How many ends and wishes are told.
const TOLD: usize = 5;

/// All that is known of an app.
pub struct AppRecord<'a> {
    /// Its processes.
    pub processes: &'a [Description],
    /// What happened to it, oldest first.
    pub events: &'a [Event],
    /// The last lines of its standard errors, by file.
    pub last_words: &'a [(String, Vec<String>)],
    /// The time.
    pub now: EpochMs,
}

/// The page. Empty if there is no process.
#[must_use]
pub fn text(record: &AppRecord<'_>, names: &Names<'_>, look: Look) -> String {
    let Some(first) = record.processes.first() else { return String::new() };
    let count = record.processes.len();
    let es = if count == 1 { "" } else { "es" };
    let mut page = Page { look, lines: Vec::new() };
    page.title(&format!("{} · {} · {count} process{es}", first.info.name, first.info.mode.word()));
    for one in record.processes {
        page.lines.extend(state(one, record, names));
    }
    page.section("Its last ends", ends(record.events, names));
    page.section("Who asked for what", asked(record.events, names));
    page.section("Listens on", listeners(first));
    let warnings = first.spec.warnings();
    page.section("What may not hold", warnings.iter().map(|why| format!("  {why}")).collect());
    page.section("Connections", record.processes.iter().filter_map(connections).collect());
    for (file, lines) in record.last_words {
        page.section(&format!("The end of {file}"), without_repetitions(lines));
    }
    page.lines.push(format!("`pmr history {0}` tells more, `pmr describe {0}` its rules", first.info.name));
    page.lines.join("\n")
}

struct Page {
    look: Look,
    lines: Vec<String>,
}

impl Page {
    fn title(&mut self, text: &str) {
        self.lines.push(self.look.paint(TITLE, text));
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
    let exit = info
        .last_exit
        .filter(|_| !matches!(info.status, Status::Online | Status::Completed) && !was_told(info.id, record.events));
    if let Some((exit, meaning)) = exit.and_then(|exit| Some((exit, meaning(exit)?))) {
        lines.push(format!("    {} usually means: {meaning}", exit_words(exit)));
    }
    lines.extend(one.under_way.as_ref().map(|work| format!("    now: {}", doing(work))));
    lines.push(format!("    next: {}", next(info, &one.spec, record)));
    lines
}

/// What is being done to it.
fn doing(work: &UnderWay) -> String {
    let verb = &work.verb;
    match &work.stage {
        Stage::Waits { held: Some(held) } => format!("a {verb} {held}"),
        Stage::Waits { held: None } => format!("a {verb} waits for what is being done already"),
        Stage::Later => format!("a {verb} is under way, and has not come to this process"),
        Stage::Now => format!("a {verb} is under way, and is at this process"),
        Stage::Watched { left_ms: None } => format!("a {verb} is under way: a canary is ready, others are to be"),
        Stage::Watched { left_ms: Some(left) } => {
            let left = span(Duration::from_millis(left.next_multiple_of(1000)));
            format!(
                "a {verb} is under way: it is tried out, for {left} more; then the rest follows, or it is taken back"
            )
        }
    }
}

/// Why it is so. One that serves has no reason to; what it was told last is about a successor that failed.
fn why(one: &Description, events: &[Event], names: &Names<'_>) -> Option<String> {
    let info = &one.info;
    let why = match (info.status, &info.fault, &info.reason) {
        // What is waited for is told as such.
        (Status::Online, _, _) if one.under_way.as_ref().is_some_and(UnderWay::waits_for_another) => return None,
        (Status::Online, _, Some(reason)) => return Some(format!("    what was to replace it failed: {reason}")),
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

/// True if its last end was no wish of its own.
fn was_told(id: u32, events: &[Event]) -> bool {
    of(events, id).rev().find_map(|event| ended(&event.kind)).is_some_and(|(_, expected)| expected)
}

fn ended(kind: &EventKind) -> Option<(Exit, bool)> {
    let EventKind::Exited { exit, expected } = kind else { return None };
    Some((*exit, *expected))
}

/// Why a process that is down without a reason of its own is.
fn stopped_by(status: Status, id: u32, events: &[Event], names: &Names<'_>) -> Option<String> {
    if !matches!(status, Status::Stopped | Status::Stopping) {
        return None;
    }
    let of_it: Vec<&Event> = of(events, id).collect();
    let last = of_it.iter().enumerate().rev().find_map(|(at, event)| Some((at, ended(&event.kind)?)));
    match last {
        Some((_, (exit, false))) if status == Status::Stopping => {
            Some(format!("it ended by itself ({}), and what it left running is ended too", exit_words(exit)))
        }
        Some((_, (exit, false))) => Some(format!("its end ({}) was final by its rules", exit_words(exit))),
        Some((at, (_, true))) => cause(&of_it[..at], names),
        None => cause(&of_it, names),
    }
}

/// What led to the end that came after these events of a process.
fn cause(before: &[&Event], names: &Names<'_>) -> Option<String> {
    // That it came to rest is said after an end, and causes no later one.
    let telling = |event: &&&Event| {
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
    let last = before.iter().rev().find(telling)?;
    Some(format!("{} ({})", super::history::words(&last.kind, names), names.time(last.at)))
}

/// What comes without anybody doing anything, or what to do.
fn next(info: &ProcessInfo, spec: &AppSpec, record: &AppRecord<'_>) -> String {
    let name = &info.name;
    match info.status {
        Status::Unhealthy => {
            let rotation = match (info.out_of_rotation, spec.checks_each_worker()) {
                (true, _) => "out of rotation: others get its connections until it passes again; ",
                (false, true) => "it serves on, since no other is healthy; ",
                (false, false) => "",
            };
            let follows = match spec.health.as_ref().map(|health| health.on_fail) {
                Some(OnFail::Restart) | None => {
                    "it is replaced, unless it passes its check before; where that fails, it is tried again later"
                }
                Some(OnFail::Alert | OnFail::None) => "it is checked on and stays, by its `on_fail`",
            };
            format!("{rotation}{follows}")
        }
        Status::Online => format!("it runs on; should it end by itself, {}", after_an_end(&spec.restart)),
        Status::Launching => match spec.readiness.listen_timeout {
            Some(timeout) if !is_older(info, timeout, record.now) => {
                format!("it is waited for until it is ready, {} at most", span(timeout))
            }
            Some(_) | None => "it is waited for until it is ready".into(),
        },
        Status::Stopping => {
            format!("SIGKILL if it has not ended {} after its stop signal", span(spec.stop.kill_timeout))
        }
        Status::Completed => format!("nothing: it has done what it was for; `pmr start {name}` does it again"),
        Status::Waiting => "it is started as soon as what it depends on lets it".into(),
        Status::Stopped => format!("nothing, until `pmr start {name}`"),
        Status::Idle => "the next connection starts it".into(),
        Status::WaitingRestart => match record.events_of(info.id).iter().rev().find_map(|event| wait(&event.kind)) {
            Some(delay) => format!("it starts again {} after its last end", span(delay)),
            None => "it starts again soon".into(),
        },
        Status::Errored => format!("nothing: mend what is wrong, then `pmr restart {name}`"),
    }
}

/// True if it was started longer ago than that: what waited for it to be ready has given up, and it may take its time.
fn is_older(info: &ProcessInfo, time: Duration, now: EpochMs) -> bool {
    info.started_at.is_some_and(|at| u128::from(now.saturating_sub(at)) > time.as_millis())
}

fn wait(kind: &EventKind) -> Option<Duration> {
    let EventKind::WaitingRestart { delay_ms } = kind else { return None };
    Some(Duration::from_millis(*delay_ms))
}

fn after_an_end(rule: &RestartRule) -> String {
    if !rule.autorestart {
        return "it stays down (autorestart is off)".into();
    }
    let when = match rule.backoff {
        Some(first) => format!("after {}, then longer each time", span(first)),
        None if rule.delay.is_zero() => "at once".into(),
        None => format!("after {}", span(rule.delay)),
    };
    let given_up = format!("given up after {} ends sooner than {}", rule.max_restarts, span(rule.min_uptime));
    let codes = rule.stop_exit_codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let codes = if codes.is_empty() { codes } else { format!("; not after code {codes}") };
    format!("it is started again {when} ({given_up}{codes})")
}

/// The last ends of its processes, each with what led to it.
fn ends(events: &[Event], names: &Names<'_>) -> Vec<String> {
    let exits = events.iter().enumerate().filter_map(|(at, event)| {
        let (exit, expected) = ended(&event.kind)?;
        Some((at, event, exit, expected, event.process.as_ref()?.id))
    });
    let mut lines: Vec<String> = exits
        .rev()
        .take(TOLD)
        .map(|(at, event, exit, expected, id)| {
            let before: Vec<&Event> = of(&events[..at], id).collect();
            let then = of(&events[at + 1..], id).next().map(|next| &next.kind);
            let why = if let Some(rest @ EventKind::Idle) = then {
                Some(super::history::words(rest, names))
            } else if expected {
                cause(&before, names)
            } else if matches!(then, Some(EventKind::Completed)) {
                Some("it had done what it was for".to_owned())
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

/// How long a run lived that ended by itself.
fn lived(before: &[&Event], end: &Event, expected: bool) -> String {
    let started = before.iter().rev().find(|event| matches!(event.kind, EventKind::Started { .. }));
    match started {
        Some(started) if !expected => {
            format!(" after {}", span(Duration::from_millis(end.at.saturating_sub(started.at))))
        }
        _ => String::new(),
    }
}

fn asked(events: &[Event], names: &Names<'_>) -> Vec<String> {
    // One command to many processes is told once.
    let mut told: Vec<(EpochMs, String)> = Vec::new();
    for event in events {
        if matches!(event.kind, EventKind::Requested { .. }) {
            let words = super::history::words(&event.kind, names);
            if told.last().is_none_or(|(_, last)| *last != words) {
                told.push((event.at, words));
            }
        }
    }
    let last = told.len().saturating_sub(TOLD);
    told[last..].iter().map(|(at, words)| format!("  {}  {words}", names.time(*at))).collect()
}

fn listeners(one: &Description) -> Vec<String> {
    one.listeners.iter().map(|listener| format!("  {}", listener_words(listener))).collect()
}

/// What one process has to do, where the supervisor can tell.
fn connections(one: &Description) -> Option<String> {
    let words = match one.load {
        Some((waiting, open)) => format!("{waiting} waiting, {open} open"),
        None if one.listeners.is_empty() => return None,
        None => format!("{} handled so far", one.connections),
    };
    Some(format!("  process {}: {words}", one.info.id))
}

/// A crash loop says the same again and again.
fn without_repetitions(lines: &[String]) -> Vec<String> {
    let runs = lines.chunk_by(|one, next| one == next);
    let shown = |run: &[String]| match run.len() {
        1 => format!("  {}", run[0]),
        times => format!("  {}  ({times} times)", run[0]),
    };
    runs.map(shown).collect()
}

/// What an end usually means, where the number says more than itself. Sources: the shells' manuals (126 and up),
/// `sysexits.h`, Node's list of its exit codes, `signal(7)`.
#[must_use]
pub fn meaning(exit: Exit) -> Option<&'static str> {
    match exit {
        Exit::Code(code) => match code {
            0 => Some(
                "it had nothing more to do; a server that ends so did not listen, closed by itself, or went to the background, where it cannot stay: have it run in the foreground",
            ),
            1 => Some("the program met an error and said so; its last words tell which"),
            2 => Some("wrong arguments, or a syntax error in the script"),
            7 => Some("in Node: an error inside the handler of uncaught exceptions"),
            9 => Some("in Node: an option it does not know"),
            12 => Some("in Node: the debugger's port is taken"),
            13 => Some("in Node: an `await` at the top level that never ended"),
            78 => Some("its configuration is wrong"),
            126 => Some("it was found, but may not be executed"),
            127 => Some("a command was not found: look at PATH"),
            129..=159 => Some("a child of its shell was killed by the signal that is this number less 128"),
            _ => None,
        },
        Exit::Signal(signal) => match signal {
            libc::SIGKILL => {
                Some("somebody or something outside killed it: an administrator, or the kernel for want of memory")
            }
            libc::SIGSEGV | libc::SIGBUS => Some("a fault in native code: an addon, or the interpreter itself"),
            libc::SIGABRT => {
                Some("it gave up by itself: a failed assertion, or in Node no more heap (--max-old-space-size)")
            }
            libc::SIGILL | libc::SIGTRAP => Some("built for another processor, or an assertion in native code"),
            libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT => {
                Some("somebody asked it to end, and not through pmr")
            }
            libc::SIGPIPE => Some("it wrote to a connection that had been closed"),
            libc::SIGXFSZ | libc::SIGXCPU => Some("it met a limit of its user (ulimit)"),
            libc::SIGSYS => Some("it called something that a filter forbids"),
            _ => None,
        },
        Exit::Unknown => Some("it ended while no daemon watched"),
        Exit::OutOfMemory { .. } => Some("raise its `memory` limit, or find its leak"),
    }
}

#[cfg(test)]
mod tests;
