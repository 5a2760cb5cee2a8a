//! How long readiness is waited for.

use std::time::Duration;

use super::{Serving, Transition};
use crate::supervisor::input::Moment;

/// How long a start waits for readiness unless the spec says otherwise.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// The same for the successor in a reload, where giving up undoes the reload.
const RELOAD_PATIENCE: Duration = Duration::from_secs(30);

/// When waiting for the readiness of a run that starts now ends.
pub(super) fn ready_by(transition: &Transition<'_>, old: Option<Serving>) -> Moment {
    let patience = transition.spec.readiness.listen_timeout.unwrap_or(match old {
        Some(serving) if serving.proven => RELOAD_PATIENCE,
        Some(_) | None => START_PATIENCE,
    });
    let start_period = transition.spec.health.as_ref().map(|health| health.start_period).unwrap_or_default();
    transition.now.after(patience.max(start_period))
}

/// `1.5 s`.
pub(super) fn seconds(span: Duration) -> String {
    format!("{} s", ((span.as_millis() + 50) / 100) as f64 / 10.0)
}
