//! The data that PM2's list does not have, under one key (`pm2_env.pmr`), so that it collides with no other.

use serde::Serialize;

use crate::protocol::{Description, ListenerInfo};
use crate::spec::{Dependencies, Health, Mechanism, OnReloadFailure, QueueRule};

#[derive(Serialize)]
pub(super) struct Own<'a> {
    /// How its workers share their listen addresses.
    mechanism: Mechanism,
    /// Why that mechanism does not work on this machine.
    obstacle: Option<&'a str>,
    listeners: &'a [ListenerInfo],
    connections: Connections,
    queue: &'a QueueRule,
    drain_timeout: u128,
    on_reload_failure: OnReloadFailure,
    depends_on: &'a Dependencies,
    health: Option<&'a Health>,
    /// The failure of the last health check.
    fault: Option<&'a str>,
    /// True if new connections go to other, healthy workers.
    out_of_rotation: bool,
}

/// Connections of this process alone; `None` if they cannot be counted.
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
