//! Prints the progress of an operation on a terminal, once it takes longer than 300 ms.
//!
//! The client subscribes to the daemon's events before it sends the request, so that no event is missed, but reads them
//! only when the operation has proved slow; until then they wait in the socket. Only events of the operation's apps are
//! shown, because another app that crashes all the time would bury them.

use std::pin::pin;
use std::time::Duration;

use regex::Regex;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use crate::cli::ui::Ui;
use crate::paths::Home;
use crate::protocol::event::EventProcess;
use crate::protocol::{Event, EventKind, Exit};
use crate::spec::interpreter::file_stem;
use crate::spec::target::Selector;
use crate::spec::{AppSpec, value};

/// Operations shorter than this show no progress.
const SHOW_AFTER: Duration = Duration::from_millis(300);

/// The processes whose events are shown.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All processes.
    All,
    /// The processes that the selectors match.
    Named(Vec<Selector>),
    /// The processes of the apps with these names.
    Apps(Vec<String>),
}

impl Scope {
    /// The apps, and those that they depend on.
    #[must_use]
    pub fn of_apps(apps: &[AppSpec]) -> Scope {
        Scope::Apps(apps.iter().flat_map(|app| app.depends_on.keys().chain([&app.name])).cloned().collect())
    }

    fn contains(&self, process: &EventProcess) -> bool {
        match self {
            Scope::All => true,
            Scope::Named(selectors) => selectors.iter().any(|selector| is_named(process, selector)),
            Scope::Apps(names) => names.contains(&process.name),
        }
    }
}

/// May match too many processes: only the daemon, which has the whole list, can resolve a selector.
fn is_named(process: &EventProcess, selector: &Selector) -> bool {
    match selector {
        Selector::All => true,
        Selector::Pattern(pattern) => Regex::new(pattern).is_ok_and(|regex| regex.is_match(&process.name)),
        Selector::Word(word) => {
            let EventProcess { id, name, namespace } = process;
            [name, namespace, &id.to_string()].contains(&word) || file_stem(word) == *name
        }
    }
}

/// The daemon's event stream; `None` unless standard error is a terminal.
pub async fn subscribe(home: &Home, ui: Ui) -> Option<UnixStream> {
    if ui.shows_progress() { UnixStream::connect(home.pub_sock()).await.ok() } else { None }
}

/// Waits for `operation`, and shows the events of its scope meanwhile if it takes longer than [`SHOW_AFTER`].
pub async fn shown<T>(events: Option<UnixStream>, ui: Ui, scope: &Scope, operation: impl Future<Output = T>) -> T {
    let mut operation = pin!(operation);
    let Some(stream) = events else { return operation.await };
    if let Ok(done) = tokio::time::timeout(SHOW_AFTER, &mut operation).await {
        return done;
    }
    let mut lines = BufReader::new(stream).lines();
    tokio::select! {
        done = &mut operation => done,
        () = print_events(&mut lines, scope, ui) => operation.await,
    }
}

async fn print_events(lines: &mut Lines<BufReader<UnixStream>>, scope: &Scope, ui: Ui) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(text) = serde_json::from_str(&line).ok().and_then(|event| sentence(&event, scope)) {
            ui.progress(&text);
        }
    }
}

/// An event as a line: `api (3) online`. `None` for events that do not belong to the progress of an operation.
fn sentence(event: &Event, scope: &Scope) -> Option<String> {
    let process = event.process.as_ref().filter(|process| scope.contains(process))?;
    let text = match &event.kind {
        EventKind::Online => "online".to_owned(),
        EventKind::StartFailed { error } => format!("could not start: {error}"),
        EventKind::Exited { exit: Exit::Code(code), expected: false } => format!("exited with code {code}"),
        EventKind::Exited { exit: Exit::Signal(signal), expected: false } => format!("killed by signal {signal}"),
        EventKind::Exited { exit: Exit::Unknown, expected: false } => "ended with an unknown status".to_owned(),
        EventKind::Exited { exit: Exit::OutOfMemory { limit }, expected: false } => {
            format!("killed by the kernel: it used more than its limit of {} of memory", value::megabytes(*limit))
        }
        EventKind::Errored { reason } => format!("given up: {reason}"),
        EventKind::WaitingRestart { delay_ms } => format!("starts again in {delay_ms} ms"),
        EventKind::Stopping => "stopping".to_owned(),
        EventKind::Stopped => "stopped".to_owned(),
        EventKind::Completed => "completed".to_owned(),
        EventKind::Held { why } => why.clone(),
        EventKind::Deleted => "deleted".to_owned(),
        EventKind::Unhealthy { reason } => format!("unhealthy: {reason}"),
        EventKind::Healthy => "healthy again".to_owned(),
        EventKind::Canary { duration_ms } => format!("is a canary, observed for {}", value::in_words(*duration_ms)),
        EventKind::RollingBack { reason } => format!("is rolled back to the previous release: {reason}"),
        EventKind::NotReplaced { reason, .. } => format!("could not be replaced: {reason}"),
        EventKind::TakenBack => "rolled back: the previous release serves".to_owned(),
        EventKind::Started { pid } => format!("started (pid {pid})"),
        EventKind::Idle => "idle".to_owned(),
        EventKind::Hung { .. } => "hangs: it is restarted".to_owned(),
        EventKind::Requested { .. }
        | EventKind::Created
        | EventKind::Exited { expected: true, .. }
        | EventKind::OverMemory { .. }
        | EventKind::Message { .. }
        | EventKind::Listening { .. }
        | EventKind::Saved
        | EventKind::Recovered { .. }
        | EventKind::ShuttingDown
        | EventKind::Lost { .. } => return None,
    };
    Some(format!("{} ({}) {text}", process.name, process.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::dependency::Condition;
    use crate::spec::sample;

    fn event(kind: EventKind) -> Event {
        let process = EventProcess { id: 3, name: "api".into(), namespace: "default".into() };
        Event { seq: 1, at: 0, process: Some(process), kind }
    }

    #[test]
    fn events_are_shown_as_sentences() {
        let text = |kind| sentence(&event(kind), &Scope::All);
        assert_eq!(text(EventKind::Online).as_deref(), Some("api (3) online"));
        let crash = EventKind::Exited { exit: Exit::Signal(9), expected: false };
        assert_eq!(text(crash).as_deref(), Some("api (3) killed by signal 9"));
        let unseen = EventKind::Exited { exit: Exit::Unknown, expected: false };
        assert_eq!(text(unseen).as_deref(), Some("api (3) ended with an unknown status"));
        assert_eq!(text(EventKind::Exited { exit: Exit::Code(0), expected: true }), None);
        assert_eq!(text(EventKind::Saved), None);
    }

    #[test]
    fn a_line_of_the_event_stream_is_parsed() {
        let line = serde_json::to_string(&event(EventKind::Started { pid: 7 })).unwrap();
        let read: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(sentence(&read, &Scope::All).as_deref(), Some("api (3) started (pid 7)"));
    }

    #[test]
    fn events_of_other_apps_are_not_shown() {
        let is_shown = |scope: Scope| sentence(&event(EventKind::Online), &scope).is_some();
        let named = |text: &str| is_shown(Scope::Named(vec![Selector::parse(text).unwrap()]));
        for word in ["api", "3", "default", "all", "/^a/", "./src/api.js"] {
            assert!(named(word), "{word}");
        }
        for word in ["web", "33", "/^b/", "api2"] {
            assert!(!named(word), "{word}");
        }
        let apps = |name: &str, needs: &[&str]| {
            let depends_on = needs.iter().map(|name| ((*name).to_owned(), Condition::Ready)).collect();
            is_shown(Scope::of_apps(&[AppSpec { name: name.to_owned(), depends_on, ..sample() }]))
        };
        assert!(apps("api", &[]) && apps("web", &["db", "api"]) && !apps("web", &["db"]));
    }
}
