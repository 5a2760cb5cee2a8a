//! How far an operation is, told on a terminal once it takes longer than a blink.
//!
//! The daemon's events are subscribed to at once, so that nothing of the first moments is missed, but read only when
//! the operation has proved slow; until then they wait in the socket.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::ui::Ui;
use crate::paths::Home;
use crate::protocol::{Event, EventKind, Exit};
use crate::spec::value;

/// Operations shorter than this pass without a word.
const BLINK: Duration = Duration::from_millis(300);

/// Waits for `operation`, and tells of the events meanwhile if it takes long and somebody watches.
pub async fn shown<T>(home: &Home, ui: Ui, operation: impl Future<Output = T>) -> T {
    let mut operation = pin!(operation);
    if !ui.is_watched() {
        return operation.await;
    }
    let stream = UnixStream::connect(home.pub_sock()).await;
    if let Ok(done) = tokio::time::timeout(BLINK, &mut operation).await {
        return done;
    }
    let Ok(stream) = stream else {
        return operation.await;
    };
    let mut lines = BufReader::new(stream).lines();
    tokio::select! {
        done = &mut operation => done,
        () = tell(&mut lines, ui) => operation.await,
    }
}

async fn tell(lines: &mut Lines<BufReader<UnixStream>>, ui: Ui) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(text) = serde_json::from_str(&line).ok().as_ref().and_then(sentence) {
            ui.progress(&text);
        }
    }
}

/// What an event says to somebody who waits: `api (3) online`. Events of no interest to them give nothing.
fn sentence(event: &Event) -> Option<String> {
    let news = match &event.kind {
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
        EventKind::Canary { watch_ms } => format!("is a canary, watched for {}", value::in_words(*watch_ms)),
        EventKind::RollingBack { reason } => format!("goes back to the release before: {reason}"),
        EventKind::Started { pid } => format!("started (pid {pid})"),
        EventKind::Idle => "idle".to_owned(),
        EventKind::Hung { .. } => "hangs: it is started again".to_owned(),
        EventKind::Asked { .. }
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
    event.process.as_ref().map(|process| format!("{} ({}) {news}", process.name, process.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::EventProcess;

    fn event(kind: EventKind) -> Event {
        let process = EventProcess { id: 3, name: "api".into(), namespace: "default".into() };
        Event { seq: 1, at: 0, process: Some(process), kind }
    }

    #[test]
    fn events_are_told_in_words() {
        let told = |kind| sentence(&event(kind));
        assert_eq!(told(EventKind::Online).as_deref(), Some("api (3) online"));
        let crash = EventKind::Exited { exit: Exit::Signal(9), expected: false };
        assert_eq!(told(crash).as_deref(), Some("api (3) killed by signal 9"));
        let unseen = EventKind::Exited { exit: Exit::Unknown, expected: false };
        assert_eq!(told(unseen).as_deref(), Some("api (3) ended with an unknown status"));
        assert_eq!(told(EventKind::Exited { exit: Exit::Code(0), expected: true }), None);
        assert_eq!(told(EventKind::Saved), None);
    }

    #[test]
    fn a_line_of_the_stream_is_read() {
        let line = serde_json::to_string(&event(EventKind::Started { pid: 7 })).unwrap();
        let read: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(sentence(&read).as_deref(), Some("api (3) started (pid 7)"));
    }
}
