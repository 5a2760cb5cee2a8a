//! The table of `list`: PM2's columns, fitted to the terminal.

use std::cmp::Ordering;
use std::time::Duration;

use comfy_table::{Cell, Color};

use super::quantity::{memory, uptime};
use super::{Terminal, cut, header, status_color};
use crate::protocol::info::EpochMs;
use crate::protocol::{ProcessInfo, Status};

/// Names longer than this are cut, as in PM2.
const NAME_LIMIT: usize = 40;

/// The sort order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The column to sort by.
    pub by: Column,
    /// True for the greatest first.
    pub descending: bool,
}

impl Default for Order {
    fn default() -> Self {
        Order { by: Column::Name, descending: false }
    }
}

impl std::str::FromStr for Order {
    type Err = String;

    /// Reads `field`, `field:asc` or `field:desc`.
    fn from_str(text: &str) -> Result<Order, String> {
        let (field, direction) = text.split_once(':').unwrap_or((text, "asc"));
        let by = Column::ALL.into_iter().find(|column| column.title() == field || column.alias() == field);
        let by = by.ok_or_else(|| {
            let fields: Vec<&str> = Column::ALL.iter().map(|column| column.alias()).collect();
            format!("`{field}` is no field to sort by; there are {}", fields.join(", "))
        })?;
        match direction {
            "asc" => Ok(Order { by, descending: false }),
            "desc" => Ok(Order { by, descending: true }),
            other => Err(format!("`{other}` is neither asc nor desc")),
        }
    }
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Column {
    Id,
    Name,
    Namespace,
    Version,
    Mode,
    Pid,
    Uptime,
    Restarts,
    Status,
    Cpu,
    Memory,
    User,
    Watching,
}

use Column::{Cpu, Id, Memory, Mode, Name, Namespace, Pid, Restarts, Uptime, User, Version, Watching};

/// The layouts, widest first; the first that fits is used.
const LAYOUTS: [&[Column]; 3] =
    [&Column::ALL, &[Id, Name, Mode, Restarts, Column::Status, Cpu, Memory], &[Id, Name, Column::Status, Cpu, Memory]];

impl Column {
    const ALL: [Column; 13] =
        [Id, Name, Namespace, Version, Mode, Pid, Uptime, Restarts, Column::Status, Cpu, Memory, User, Watching];

    fn title(self) -> &'static str {
        match self {
            Id => "id",
            Name => "name",
            Namespace => "namespace",
            Version => "version",
            Mode => "mode",
            Pid => "pid",
            Uptime => "uptime",
            Restarts => "↺",
            Column::Status => "status",
            Cpu => "cpu",
            Memory => "mem",
            User => "user",
            Watching => "watching",
        }
    }

    /// The name of the column on a command line.
    fn alias(self) -> &'static str {
        match self {
            Restarts => "restarts",
            Memory => "memory",
            other => other.title(),
        }
    }

    fn text(self, info: &ProcessInfo, now: EpochMs) -> String {
        match self {
            Id => info.id.to_string(),
            Name => cut(&info.name, NAME_LIMIT),
            Namespace => cut(&info.namespace, 20),
            Version => cut(info.version.as_deref().unwrap_or("N/A"), 12),
            Mode => info.mode.word().to_owned(),
            Pid => info.pid.map_or_else(|| "0".to_owned(), |pid| pid.to_string()),
            Uptime => running_for(info, now).map_or_else(|| "0".to_owned(), uptime),
            Restarts => info.restarts.to_string(),
            Column::Status => info.status.word().to_owned(),
            Cpu => percent(info.cpu),
            Memory => memory(info.memory),
            User => cut(&info.user, 12),
            Watching => "disabled".to_owned(),
        }
    }

    fn cell(self, text: &str, info: &ProcessInfo) -> Cell {
        let cell = Cell::new(text);
        match self {
            Id => cell.fg(Color::Cyan).add_attribute(comfy_table::Attribute::Bold),
            Column::Status => cell.fg(status_color(info.status)),
            Name | Namespace | Version | Mode | Pid | Uptime | Restarts | Cpu | Memory | User | Watching => cell,
        }
    }

    fn compare(self, a: &ProcessInfo, b: &ProcessInfo) -> Ordering {
        match self {
            Id => a.id.cmp(&b.id),
            Name => a.name.cmp(&b.name),
            Namespace => a.namespace.cmp(&b.namespace),
            Version => a.version.cmp(&b.version),
            Mode => a.mode.word().cmp(b.mode.word()),
            Pid => a.pid.cmp(&b.pid),
            // The longest uptime is the earliest start.
            Uptime => b.started_at.cmp(&a.started_at),
            Restarts => a.restarts.cmp(&b.restarts),
            Column::Status => a.status.word().cmp(b.status.word()),
            Cpu => a.cpu.total_cmp(&b.cpu),
            Memory => a.memory.cmp(&b.memory),
            User => a.user.cmp(&b.user),
            Watching => Ordering::Equal,
        }
    }
}

fn percent(value: f32) -> String {
    let text = format!("{value:.1}");
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

/// How long the process has been online, if it is.
#[must_use]
pub fn running_for(info: &ProcessInfo, now: EpochMs) -> Option<Duration> {
    let started = info.started_at.filter(|_| matches!(info.status, Status::Online | Status::Unhealthy))?;
    Some(Duration::from_millis(now.saturating_sub(started)))
}

/// The processes as a table. Uptimes are counted until `now`.
#[must_use]
pub fn table(processes: &[ProcessInfo], order: Order, now: EpochMs, terminal: Terminal) -> String {
    let sorted = sorted(processes, order);
    let columns = LAYOUTS.into_iter().find(|columns| fits(columns, &sorted, now, terminal.width));
    let columns = columns.unwrap_or(LAYOUTS[LAYOUTS.len() - 1]);
    let mut table = terminal.table();
    table.set_header(columns.iter().map(|column| header(column.title())));
    for info in sorted {
        table.add_row(columns.iter().map(|column| column.cell(&column.text(info, now), info)));
    }
    table.to_string()
}

/// A block of lines for each process, for narrow terminals and screen readers.
#[must_use]
pub fn blocks(processes: &[ProcessInfo], order: Order, now: EpochMs) -> String {
    let block = |info: &&ProcessInfo| {
        let lines = Column::ALL.iter().filter(|column| **column != Name);
        let lines = lines.map(|column| format!("{} : {}", column.alias(), column.text(info, now)));
        format!("+--- {}\n{}", info.name, lines.collect::<Vec<_>>().join("\n"))
    };
    sorted(processes, order).iter().map(block).collect::<Vec<_>>().join("\n")
}

/// Sentences about processes that are out of rotation, for which the table has no room.
#[must_use]
pub fn notes(processes: &[ProcessInfo]) -> Vec<String> {
    let out = sorted(processes, Order::default()).into_iter().filter(|info| info.out_of_rotation);
    out.map(|info| {
        let fault = info.fault.as_ref().map_or_else(String::new, |fault| format!(": {fault}"));
        format!("`{}` ({}) is unhealthy and out of rotation until it passes again{fault}", info.name, info.id)
    })
    .collect()
}

fn sorted(processes: &[ProcessInfo], order: Order) -> Vec<&ProcessInfo> {
    let mut sorted: Vec<&ProcessInfo> = processes.iter().collect();
    sorted.sort_by(|a, b| {
        let compared = order.by.compare(a, b);
        let compared = if order.descending { compared.reverse() } else { compared };
        compared.then(a.id.cmp(&b.id))
    });
    sorted
}

fn fits(columns: &[Column], processes: &[&ProcessInfo], now: EpochMs, width: Option<usize>) -> bool {
    let Some(width) = width else {
        return true;
    };
    let longest = |column: &Column| {
        let texts = processes.iter().map(|info| column.text(info, now).chars().count());
        texts.chain([column.title().chars().count()]).max().unwrap_or_default()
    };
    // A space on each side of a cell, a line between cells and at both ends.
    columns.iter().map(|column| longest(column) + 3).sum::<usize>() < width
}
