//! What PM2's list has no words for, under one key of its own (`pm2_env.pmr`), so that it clashes with nothing.

use serde::Serialize;

use crate::protocol::{Description, ListenerInfo};
use crate::spec::{Dependencies, Health, Mechanism, OnReloadFailure, QueueRule};

#[derive(Serialize)]
pub(super) struct Own<'a> {
    /// How its workers share what they listen on.
    mechanism: Mechanism,
    /// Why that cannot be had here.
    obstacle: Option<&'a str>,
    listeners: &'a [ListenerInfo],
    connections: Connections,
    queue: &'a QueueRule,
    drain_timeout: u128,
    on_reload_failure: OnReloadFailure,
    depends_on: &'a Dependencies,
    health: Option<&'a Health>,
    /// What the last health check found wrong.
    fault: Option<&'a str>,
    /// New connections go to others, which are healthy.
    out_of_rotation: bool,
}

/// Of this process alone; nothing where it cannot be told.
#[derive(Serialize)]
struct Connections {
    waiting: Option<u32>,
    open: Option<u32>,
    handled: u64,
}

impl<'a> From<&'a Description> for Own<'a> {
    fn from(one: &'a Description) -> Own<'a> {
        let (waiting, open) = one.load.unzip();
        Own {
            mechanism: one.spec.mechanism(),
            obstacle: one.obstacle.as_deref(),
            listeners: &one.listeners,
            connections: Connections { waiting, open, handled: one.connections },
            queue: &one.spec.queue,
            drain_timeout: one.spec.stop.drain_timeout.as_millis(),
            on_reload_failure: one.spec.on_reload_failure,
            depends_on: &one.spec.depends_on,
            health: one.spec.health.as_ref(),
            fault: one.info.fault.as_deref(),
            out_of_rotation: one.info.out_of_rotation,
        }
    }
}
