//! All details of one process, for people.

use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{Cell, ContentArrangement};

use super::list::running_for;
use super::quantity::{memory, span, uptime};
use super::secret::{self, Redactor};
use super::{TITLE, Terminal, exit_words, header, status_color};
use crate::protocol::info::EpochMs;
use crate::protocol::{Description, ListenerInfo};
use crate::spec::health::{Health, OnFail, Probe};
use crate::spec::{
    AppSpec, Balance, Confinement, ExecMode, Mechanism, OnReloadFailure, Program, QueueRule, Share, Sharing, Shed,
};

type Rows = Vec<(&'static str, String)>;

/// The processes in order, each with a title and its tables.
#[must_use]
pub fn text(described: &[Description], show_secrets: bool, now: EpochMs, terminal: Terminal) -> String {
    described.iter().map(|one| process(one, show_secrets, now, terminal)).collect::<Vec<_>>().join("\n\n")
}

fn process(one: &Description, show_secrets: bool, now: EpochMs, terminal: Terminal) -> String {
    let info = &one.info;
    let mut parts = vec![
        terminal.paint(TITLE, &format!("Process {} · {} (instance {})", info.id, info.name, info.instance)),
        table(state(one, now), one, terminal),
        terminal.paint(TITLE, "Program"),
        table(program(one, show_secrets), one, terminal),
        terminal.paint(TITLE, "Rules"),
        table(rules(&one.spec), one, terminal),
    ];
    if !one.spec.env.is_empty() {
        let mut redactor = Redactor::new(show_secrets);
        parts.push(terminal.paint(TITLE, "Declared variables"));
        parts.extend(one.spec.env.iter().map(|(name, value)| format!("  {name}={}", redactor.shown(name, value))));
    }
    parts.push(format!("`pmr logs {0}` follows its output, `pmr env {0}` shows its whole environment", info.id));
    parts.join("\n")
}

fn table(rows: Rows, one: &Description, terminal: Terminal) -> String {
    let mut table = terminal.table();
    if let Some(width) = terminal.width {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    }
    for (key, value) in rows {
        let cell = Cell::new(value);
        let cell = if key == "status" { cell.fg(status_color(one.info.status)) } else { cell };
        table.add_row([header(key), cell]);
    }
    table.to_string()
}

fn state(one: &Description, now: EpochMs) -> Rows {
    let info = &one.info;
    let mut rows = vec![
        ("status", format!("{}{}", info.status.word(), if info.out_of_rotation { ", out of rotation" } else { "" })),
        ("namespace", info.namespace.clone()),
        ("version", info.version.clone().unwrap_or_else(|| "N/A".into())),
        ("pid", info.pid.map_or_else(|| "N/A".into(), |pid| pid.to_string())),
        ("uptime", running_for(info, now).map_or_else(|| "0".into(), uptime)),
        ("restarts", info.restarts.to_string()),
        ("unstable restarts", info.unstable_restarts.to_string()),
        ("created at", moment(info.created_at)),
        ("last start", info.started_at.map_or_else(|| "never".into(), moment)),
        ("last exit", info.last_exit.map_or_else(|| "none".into(), exit_words)),
    ];
    if let Some(fault) = &info.fault {
        rows.push(("failed health check", fault.clone()));
    }
    if let Some(reason) = &info.reason {
        rows.push(("reason", reason.clone()));
    }
    rows.extend(one.says.clone().map(|says| ("status message", says)));
    rows.extend([("cpu", format!("{:.1}%", info.cpu)), ("memory", memory(info.memory))]);
    if info.mode == ExecMode::Cluster || !one.listeners.is_empty() {
        rows.push(("listens on", listeners(one)));
        rows.extend(match one.load {
            Some((waiting, open)) => {
                vec![("connections waiting", waiting.to_string()), ("connections open", open.to_string())]
            }
            None => vec![("connections handled", one.connections.to_string())],
        });
    }
    rows.extend([
        ("out log", path(info.out_log.as_ref())),
        ("error log", path(info.err_log.as_ref())),
        ("pid file", one.pid_file.display().to_string()),
    ]);
    rows
}

fn listeners(one: &Description) -> String {
    if !one.listeners.is_empty() {
        return one.listeners.iter().map(listener_words).collect::<Vec<_>>().join("\n");
    }
    match one.spec.mechanism() {
        // Only the script itself uses Node's cluster protocol, no process that it starts.
        Mechanism::Node => {
            "nothing through pmr; if the server is a process that this script starts, give pmr the whole \
                            command line in quotes instead of the script, and it is shared"
                .into()
        }
        Mechanism::BindInterception | Mechanism::Activation | Mechanism::None => "nothing through pmr".into(),
    }
}

/// An address, the mechanism by which connections get from there to the workers, and the number of workers.
pub(super) fn listener_words(one: &ListenerInfo) -> String {
    let s = if one.workers == 1 { "" } else { "s" };
    let mut text = format!("{} ({}, {} worker{s}", one.address, one.mechanism, one.workers);
    text.extend(one.dealt.map(|dealt| format!(", {dealt} connections so far")));
    text.extend((one.waiting > 0).then(|| format!(", {} waiting", one.waiting)));
    text.extend(one.why.iter().map(|why| format!("; {why}")));
    text + ")"
}

fn program(one: &Description, show_secrets: bool) -> Rows {
    let args = |args: &[String]| match show_secrets {
        true => words(args),
        false => words(&secret::args(args.iter().map(String::as_str)).collect::<Vec<_>>()),
    };
    let spec = &one.spec;
    let mut rows = match &spec.program {
        Program::Script { script, interpreter, interpreter_args } => vec![
            ("script", script.display().to_string()),
            ("interpreter", interpreter.clone()),
            ("interpreter args", args(interpreter_args)),
        ],
        Program::Binary { path } => vec![("program", path.display().to_string())],
        Program::CommandLine { line, shell } => {
            let line = if show_secrets { line.clone() } else { secret::command_line(line) };
            vec![("command line", line), ("shell", shell.display().to_string())]
        }
    };
    rows.extend([
        ("args", args(&spec.args)),
        ("cwd", spec.cwd.display().to_string()),
        ("mode", mode(one)),
        ("instances", spec.instances.to_string()),
        ("instance variable", spec.instance_var.clone()),
    ]);
    if let Some(version) = &one.node_version {
        rows.push(("node version", version.clone()));
    }
    if let Some(environment) = spec.env.get("NODE_ENV").or_else(|| spec.base_env.get("NODE_ENV")) {
        rows.push(("NODE_ENV", environment.clone()));
    }
    rows
}

fn mode(one: &Description) -> String {
    let spec = &one.spec;
    match (spec.mechanism(), spec.balance) {
        (Mechanism::None, _) => "fork: each process listens for itself".into(),
        (Mechanism::Node, Balance::RoundRobin) => "cluster: pmr deals connections out in turn".into(),
        (Mechanism::Node, Balance::Sticky) => "cluster: pmr sends each client address to one worker".into(),
        (Mechanism::Node, Balance::Least) => "cluster: pmr sends connections where the fewest are open".into(),
        (Mechanism::Node, Balance::Shared) => "cluster: workers accept from a shared listener".into(),
        (Mechanism::Activation, balance) => {
            format!("socket activation: it gets its sockets (`listen`) from pmr{}", by_kernel(balance))
        }
        (Mechanism::BindInterception, _) => match &one.obstacle {
            None => {
                format!(
                    "cluster: all processes share the addresses that they bind{}{}",
                    limits(&spec.sharing),
                    by_kernel(spec.balance)
                )
            }
            Some(why) => format!(
                "cluster: interception of `bind` is not possible here: {why}; \
                 they share a port only if they set SO_REUSEPORT"
            ),
        },
    }
}

/// How the kernel distributes connections to the workers, if `balance` is set.
fn by_kernel(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin | Balance::Shared => "",
        Balance::Sticky => "; each client address keeps its worker if the kernel accepts a BPF program",
        Balance::Least => {
            "; the kernel distributes connections in turn, `balance: least` works on pmr's own channel only"
        }
    }
}

fn limits(sharing: &Sharing) -> String {
    let ports: Vec<String> = sharing.ports.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { String::new() } else { format!(" of ports {}", ports.join(", ")) };
    match sharing.share {
        Share::Own => ports,
        Share::Queue => format!("{ports}, from one queue"),
    }
}

fn queue(spec: &AppSpec) -> String {
    let QueueRule { backlog, max_connections, timeout, shed } = spec.queue;
    let count = |what: &str, number: Option<u32>| number.map(|number| format!("{what} {number}"));
    let after = match shed {
        Shed::Answer => "get a 503 response",
        Shed::Close => "are closed",
    };
    let wait = timeout.map_or_else(
        || "connections wait for a worker as long as it takes".to_owned(),
        |time| format!("connections wait {} for a worker, then {after}", span(time)),
    );
    let open = match spec.mechanism() {
        Mechanism::Node => "open in a worker: at most",
        Mechanism::None | Mechanism::Activation | Mechanism::BindInterception => {
            "open in a worker, if it is on pmr's own channel: at most"
        }
    };
    let counts = [count("accept queue: at least", backlog), count(open, max_connections)];
    [Some(wait)].into_iter().chain(counts).flatten().collect::<Vec<_>>().join("; ")
}

fn rules(spec: &AppSpec) -> Rows {
    let (restart, stop) = (&spec.restart, &spec.stop);
    let mut rows = vec![
        ("starts with the daemon", yes(spec.autostart)),
        ("restarts by itself", yes(restart.autorestart)),
        ("restart delay", delay(restart.delay, restart.backoff)),
        ("given up after", format!("{} exits sooner than {}", restart.max_restarts, span(restart.min_uptime))),
        ("stays down after codes", numbers(&restart.stop_exit_codes)),
        ("memory limit", restart.max_memory.map_or_else(|| "none".into(), memory)),
        ("ready when", ready(spec)),
        ("stopped by", if stop.with_message { "the message `shutdown`".into() } else { "a signal".into() }),
        ("killed after", span(stop.kill_timeout)),
        ("drain timeout", span(stop.drain_timeout)),
        ("a reload that fails", reload_failure(spec.on_reload_failure).into()),
        ("queue", queue(spec)),
        ("stop signal goes to", if stop.tree { "the whole tree".into() } else { "the main process".into() }),
        ("one log for all instances", yes(spec.logs.merge)),
    ];
    rows.extend(spec.health.iter().map(|health| ("health check", check(health))));
    if !spec.depends_on.is_empty() {
        let words = spec.depends_on.iter().map(|(name, condition)| format!("{name} ({})", condition.word()));
        rows.push(("starts after", words.collect::<Vec<_>>().join(", ")));
    }
    rows.extend(demand(spec));
    rows.extend(spec.warnings().into_iter().map(|why| ("warning", why.to_owned())));
    rows.extend(confinement(&spec.confinement));
    rows
}

fn reload_failure(policy: OnReloadFailure) -> &'static str {
    match policy {
        OnReloadFailure::Rollback => "is rolled back to the previous release",
        OnReloadFailure::Pause => "stops where it is",
        OnReloadFailure::Continue => "continues with the other processes",
    }
}

/// The health check: its probe, its interval, and the consequence of failures.
fn check(health: &Health) -> String {
    let probe = match &health.probe {
        Probe::Http { address: None, path } => format!("GET {path}, of each worker over a connection of its own"),
        Probe::Http { address: Some(address), path } => format!("GET http://{address}{path}"),
        Probe::Tcp { address } => format!("a connection to {address}"),
        Probe::Exec(command) => format!("`{command}` exits with code 0"),
        Probe::Log(pattern) => return format!("a line of its output has `{pattern}`, once"),
    };
    let failures = match health.retries {
        1 => "a failure".to_owned(),
        more => format!("{more} failures in a row"),
    };
    let follows = match health.on_fail {
        OnFail::Restart => "it is unhealthy and replaced",
        OnFail::Alert => "it is unhealthy, which is recorded in its history",
        OnFail::None => "it is shown as unhealthy",
    };
    let Health { interval, timeout, .. } = health;
    format!("{probe}, every {} and within {}; after {failures} {follows}", span(*interval), span(*timeout))
}

/// The rules for an idle app, and for one that hangs.
fn demand(spec: &AppSpec) -> Rows {
    let mut rows = Vec::new();
    if let Some(time) = spec.watchdog {
        rows.push(("hangs without a message for", span(time)));
    }
    if let Some(time) = spec.activation.idle_timeout {
        let least = spec.activation.min_instances.unwrap_or(0);
        rows.push(("idle", format!("after {} without a connection, down to {least}", span(time))));
    }
    rows
}

/// The limits that are set; others are left out. Each applies to one process with all its child processes.
fn confinement(rules: &Confinement) -> Rows {
    let mut rows = Vec::new();
    let mut add = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
    add("killed above", rules.memory.map(|bytes| format!("{} of memory", memory(bytes))));
    add("processor limit", rules.cpu.map(|thousandths| format!("{}% of one", f64::from(thousandths) / 10.0)));
    add("most processes and threads", rules.pids.map(|count| count.to_string()));
    add("most open files", rules.nofile.map(|count| count.to_string()));
    add("runs as user", rules.user.clone());
    add("runs with group", rules.group.clone());
    add("can gain privileges", rules.no_new_privs.then(|| yes(false)));
    let paths = rules.read_only_paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    add("cannot change", (!paths.is_empty()).then(|| paths.join("\n")));
    add("has its own /tmp", rules.private_tmp.then(|| yes(true)));
    rows
}

fn delay(fixed: Duration, backoff: Option<Duration>) -> String {
    match backoff {
        Some(first) => format!("from {}, growing by half each time up to 15 s", span(first)),
        None if fixed.is_zero() => "none".into(),
        None => span(fixed),
    }
}

fn ready(spec: &AppSpec) -> String {
    let limit = match spec.readiness.listen_timeout {
        Some(timeout) => span(timeout),
        None => "3 s at a start, 30 s at a reload".into(),
    };
    if spec.health.is_some() {
        return format!("its health check passes; waits for it {limit}");
    }
    match (spec.readiness.wait_ready, spec.mode) {
        (true, _) => format!("the app sends `ready`, or READY=1 to NOTIFY_SOCKET; waits for it {limit}"),
        (false, ExecMode::Cluster) if !spec.activation.listen.is_empty() => {
            format!("it sends READY=1, or accepts connections; waits for it {limit}")
        }
        (false, ExecMode::Cluster) => format!("it listens; waits for it {limit}"),
        (false, ExecMode::Fork) => "it runs".into(),
    }
}

fn moment(at: EpochMs) -> String {
    let at = i64::try_from(at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "N/A".into(), |at| at.to_string())
}

fn path(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "discarded".into(), |path| path.display().to_string())
}

fn words<S: std::borrow::Borrow<str>>(words: &[S]) -> String {
    if words.is_empty() { "none".into() } else { words.join(" ") }
}

fn numbers(numbers: &[i32]) -> String {
    words(&numbers.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn yes(yes: bool) -> String {
    if yes { "yes".into() } else { "no".into() }
}
