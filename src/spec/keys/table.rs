//! The table itself.
//!
//! To add a key: give it a field in [`super::Draft`] (or in one of the rules a draft holds) and a row in
//! [`KEYS`]; take it out of [`UNSUPPORTED`].

use super::Key;
use super::members::{of_cluster, of_dependencies, of_health, of_limits};
use super::objects::{cluster, dependencies, health, share};
use super::read::{
    Unfit, balance, boolean, bytes_or_none, count, count_or_none, cpu, duration, duration_or_none, endpoints,
    exec_mode, exit_codes, instances, limits, list, log_target, memory_limit, name, name_or_number, nofile,
    on_reload_failure, paths, ports, put, shed, variable, variables, word, words,
};
use super::row::{dashed, key, repeated, sets, several, takes};
use crate::spec::ExecMode;
use std::time::Duration;

/// All keys, in the order of `--help`.
pub static KEYS: &[Key] = &[
    key("script", "the path of a script, a program or a command line", |d, v| put(&mut d.script, word(v).map(Some)))
        .aliases(&["exec", "cmd", "command"])
        .fixed(ANEW),
    key("name", "a name: one line of text, not `all`", |d, v| put(&mut d.name, name(v).map(Some)))
        .flag(takes("name", "NAME", "Name of the app [default: the script's, without extension]").short('n'))
        .fixed(ANEW),
    key("namespace", "a name: one line of text, not `all`", |d, v| put(&mut d.namespace, name(v).map(Some)))
        .flag(takes("namespace", "NAME", "Group the app belongs to [default: default]"))
        .fixed(ANEW),
    key("instances", "a whole number of at most 10000, or \"max\"", |d, v| {
        put(&mut d.instances, instances(v).map(Some))
    })
    .flag(
        dashed("instances", "N", "How many processes: a number, `max` (or 0) for one per CPU, -1 for one fewer")
            .short('i'),
    )
    .fixed("the number of processes is changed by `pmr scale`"),
    key("exec_mode", "\"fork\" or \"cluster\"", |d, v| put(&mut d.mode, exec_mode(v).map(Some)))
        .flag(takes("exec-mode", "MODE", "`cluster`: the processes share their ports; `fork`: they do not"))
        .fixed(ANEW),
    key("execute_command", BOOL, |d, v| {
        if boolean(v)? {
            d.mode = Some(ExecMode::Fork);
        }
        Ok(())
    })
    .flag(sets(true, "execute-command", "The same as --exec-mode fork").short('x'))
    .fixed(ANEW),
    key("balance", "\"round_robin\", \"sticky\", \"least\" or \"shared\"", |d, v| put(&mut d.balance, balance(v)))
        .flag(takes(
            "balance",
            "HOW",
            "How a cluster's connections are dealt out: `round_robin`, `sticky` by client address, `least` open \
             connections first (in Node and on pmr's own channel), or `shared`: workers accept them themselves",
        ))
        .fixed(ANEW),
    key("backlog", "a whole number", |d, v| put(&mut d.queue.backlog, count_or_none(v)))
        .flag(takes(
            "backlog",
            "N",
            "Shortest accept queue of a cluster's ports [default: 511 where pmr accepts, else 1024, or what the app asks for]",
        ))
        .fixed(ANEW),
    key("max_connections", "a whole number", |d, v| put(&mut d.queue.max_connections, count_or_none(v)))
        .flag(takes("max-connections", "N", "Most open connections of a worker, in Node or on pmr's own channel; more wait"))
        .fixed(ANEW),
    key("queue_timeout", TIME, |d, v| put(&mut d.queue.timeout, duration_or_none(v)))
        .flag(takes("queue-timeout", "TIME", "How long a connection waits for a worker of a cluster, or at --listen [default: as long as it takes]"))
        .fixed(ANEW),
    key("on_queue_timeout", "\"503\" or \"close\"", |d, v| put(&mut d.queue.shed, shed(v)))
        .flag(takes(
            "on-queue-timeout",
            "WHAT",
            "What it gets then: `503`, a plain HTTP response, or `close` [default: 503]",
        ))
        .fixed(ANEW),
    key("cluster", "an object of `ports` (numbers from 1 to 65535) and `share` (\"own\" or \"queue\")", |d, v| {
        cluster(&mut d.sharing, v)
    })
    .inside(of_cluster),
    key("cluster_ports", "numbers from 1 to 65535, one or a list", |d, v| put(&mut d.sharing.ports, ports(v))).flag(
        several("cluster-ports", "PORT", "Ports that a cluster shares; others are each process's own [default: all]"),
    ),
    key("share", "\"own\" or \"queue\"", |d, v| put(&mut d.sharing.share, share(v))).flag(takes(
        "share",
        "HOW",
        "Where connections wait: `own`, a queue for each process, or `queue`, one for all [default: own]",
    )),
    key("cwd", "the path of a directory", |d, v| put(&mut d.cwd, word(v).map(Some)))
        .flag(takes("cwd", "DIR", "Working directory of the app [default: where you are]"))
        .fixed(ANEW),
    key("args", "a list of strings, or one string with balanced quotes", |d, v| put(&mut d.args, words(v).map(Some))),
    key("interpreter", "the name or path of an interpreter, or \"none\"", |d, v| {
        put(&mut d.interpreter, word(v).map(Some))
    })
    .aliases(&["exec_interpreter"])
    .flag(takes("interpreter", "PROGRAM", "What runs the script; `none` executes it directly [default: by extension]"))
    .fixed(ANEW),
    key("interpreter_args", "a list of strings, or one string with balanced quotes", |d, v| {
        put(&mut d.interpreter_args, words(v).map(Some))
    })
    .aliases(&["node_args"])
    .flag(dashed("interpreter-args", "ARGS", "Arguments of the interpreter, in quotes").aliases(&["node-args"])),
    key("env", "an object of environment variables", |d, v| {
        d.env.extend(variables(v)?);
        Ok(())
    }),
    key("env_file", "the path of a file, or a list of paths", |d, v| put(&mut d.env_files, list(v)))
        .flag(repeated("env-file", "FILE", "Read environment variables from FILE (may be repeated)"))
        .fixed("files of variables are read by `pmr start` only"),
    key("instance_var", "the name of an environment variable", |d, v| put(&mut d.instance_var, variable(v)))
        .flag(takes("instance-var", "VAR", "Variable that holds the instance's number [default: NODE_APP_INSTANCE]"))
        .fixed(ANEW),
    key("autostart", BOOL, |d, v| put(&mut d.autostart, boolean(v))).flag(sets(
        false,
        "no-autostart",
        "Add the app without starting it",
    )),
    key("autorestart", BOOL, |d, v| put(&mut d.restart.autorestart, boolean(v))).flag(sets(
        false,
        "no-autorestart",
        "Do not start the app again when it exits",
    )),
    key("max_restarts", "a whole number", |d, v| put(&mut d.restart.max_restarts, count(v))).flag(takes(
        "max-restarts",
        "N",
        "Give up after N unstable restarts [default: 16]",
    )),
    key("min_uptime", "a time of at least 100 (milliseconds), such as 5000 or \"5s\"", |d, v| {
        let time = duration(v)?;
        if time < Duration::from_millis(100) { Err(Unfit) } else { put(&mut d.restart.min_uptime, Ok(time)) }
    })
    .flag(takes("min-uptime", "TIME", "An exit before this is unstable [default: 1s]")),
    key("restart_delay", TIME, |d, v| put(&mut d.restart.delay, duration(v))).flag(takes(
        "restart-delay",
        "TIME",
        "Wait before each restart [default: 0]",
    )),
    key("exp_backoff_restart_delay", TIME, |d, v| put(&mut d.restart.backoff, duration_or_none(v))).flag(takes(
        "exp-backoff-restart-delay",
        "TIME",
        "Wait before a restart, growing by half each time up to 15s",
    )),
    key("stop_exit_codes", "exit codes from 0 to 255, one or a list", |d, v| {
        put(&mut d.restart.stop_exit_codes, exit_codes(v))
    })
    .flag(several("stop-exit-codes", "CODE", "Exit codes after which the app is not started again")),
    key("max_memory_restart", "a size such as \"300M\", \"1G\" or a number of bytes", |d, v| {
        put(&mut d.restart.max_memory, bytes_or_none(v))
    })
    .flag(takes("max-memory-restart", "SIZE", "Replace a process that uses more memory than this, such as 300M")),
    key(
        "limits",
        "an object of `memory` (\"300M\"), `cpu` (1.5 or \"150%\"), `pids` and `nofile` (whole numbers)",
        |d, v| limits(&mut d.confinement, v),
    )
    .inside(of_limits),
    key("max_memory", "a size of at least 1M, such as \"300M\" or \"1G\"", |d, v| {
        put(&mut d.confinement.memory, memory_limit(v))
    })
    .flag(takes(
        "max-memory",
        "SIZE",
        "The kernel kills a process that takes more memory than this, such as 300M",
    )),
    key("cpu", "processors, such as 0.5 or 2, or a percentage of one, such as \"150%\"", |d, v| {
        put(&mut d.confinement.cpu, cpu(v))
    })
    .flag(takes("cpu", "CPUS", "Processor time a process may use: 0.5, or 50%, is half of one processor")),
    key("pids", "a whole number", |d, v| put(&mut d.confinement.pids, count_or_none(v))).flag(takes(
        "pids",
        "N",
        "How many processes and threads a process may become, itself included",
    )),
    key("nofile", "a whole number of at least 16", |d, v| put(&mut d.confinement.nofile, nofile(v))).flag(takes(
        "nofile",
        "N",
        "How many files a process may have open",
    )),
    key("uid", "the name or number of a user", |d, v| put(&mut d.confinement.user, name_or_number(v).map(Some)))
        .aliases(&["user"])
        .flag(takes("uid", "USER", "Run the app as this user, by name or number").aliases(&["user"])),
    key("gid", "the name or number of a group", |d, v| put(&mut d.confinement.group, name_or_number(v).map(Some)))
        .aliases(&["group"])
        .flag(takes("gid", "GROUP", "Run the app with this group [default: the user's]").aliases(&["group"])),
    key("no_new_privs", BOOL, |d, v| put(&mut d.confinement.no_new_privs, boolean(v))).flag(sets(
        true,
        "no-new-privs",
        "Nothing the app executes gains privileges",
    )),
    key("read_only_paths", "a path, or a list of paths", |d, v| put(&mut d.confinement.read_only_paths, paths(v)))
        .flag(repeated("read-only-path", "PATH", "The app cannot change PATH or anything in it (may be repeated)")),
    key("private_tmp", BOOL, |d, v| put(&mut d.confinement.private_tmp, boolean(v))).flag(sets(
        true,
        "private-tmp",
        "The app has /tmp and /var/tmp for itself",
    )),
    key("kill_timeout", TIME, |d, v| put(&mut d.stop.kill_timeout, duration(v))).flag(
        takes("kill-timeout", "TIME", "Time to exit after the stop signal, before SIGKILL [default: 1600]").short('k'),
    ),
    key("drain_timeout", TIME, |d, v| put(&mut d.stop.drain_timeout, duration(v))).flag(takes(
        "drain-timeout",
        "TIME",
        "Time for a replaced worker to finish its requests [default: 10s]",
    )),
    key("shutdown_with_message", BOOL, |d, v| put(&mut d.stop.with_message, boolean(v))).flag(sets(
        true,
        "shutdown-with-message",
        "Stop with the message `shutdown` in place of a signal",
    )),
    key("treekill", BOOL, |d, v| put(&mut d.stop.tree, boolean(v))).flag(sets(
        false,
        "no-treekill",
        "Send the stop signal to the main process only",
    )),
    key("wait_ready", BOOL, |d, v| put(&mut d.readiness.wait_ready, boolean(v))).flag(sets(
        true,
        "wait-ready",
        "A process is ready when it sends the message `ready`",
    )),
    key("listen_timeout", TIME, |d, v| put(&mut d.readiness.listen_timeout, duration_or_none(v))).flag(takes(
        "listen-timeout",
        "TIME",
        "Longest wait for a process to be ready [default: 3s, at a reload 30s]",
    )),
    key("watchdog", TIME, |d, v| put(&mut d.watchdog, duration_or_none(v))).flag(takes(
        "watchdog",
        "TIME",
        "Start a process again that has not sent WATCHDOG=1 to NOTIFY_SOCKET for so long",
    )),
    key(
        "listen",
        "\"tcp://HOST:PORT\", \"udp://HOST:PORT\" or \"unix:///PATH\", an object of `url`, `name` and `mode`, or a list",
        |d, v| put(&mut d.activation.listen, endpoints(v)),
    )
    .flag(repeated("listen", "ADDRESS", "Open tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH for the app, which finds it at fd 3 (may be repeated)"))
    .fixed(ANEW),
    key("idle_timeout", TIME, |d, v| put(&mut d.activation.idle_timeout, duration_or_none(v))).flag(takes(
        "idle-timeout",
        "TIME",
        "Stop processes after so long without a connection to a --listen address; the next one starts them",
    )),
    key("min_instances", "a whole number", |d, v| put(&mut d.activation.min_instances, count(v).map(Some))).flag(takes(
        "min-instances",
        "N",
        "How many processes stay after the idle timeout [default: 0]",
    )),
    key(
        "health",
        "a path or URL (\"/healthz\"), \"tcp:PORT\", \"exec:COMMAND\" or \"log:TEXT\", or an object of one of `http` (\"/healthz\", \
         \"http://host:port/path\"), `tcp` (a port, \"host:port\"), `exec` (a command line, or a list of words) and `log` (a text, \
         \"/a regular expression/\"), with `interval`, `timeout`, `retries`, `start_period`, `on_fail` (\"restart\", \"alert\", \"none\")",
        |d, v| put(&mut d.health, health(v).map(Some)),
    )
    .inside(of_health)
    .flag(takes("health", "CHECK", "Ready, and healthy, is only who passes: a GET of PATH or URL, tcp:PORT, exec:COMMAND, log:TEXT, log:/REGEX/")),
    key(
        "depends_on",
        "names of apps, such as \"db\" (it is to be ready) or \"db:healthy\", or an object such as {db: \"healthy\"}, of \
         \"started\", \"ready\", \"healthy\" and \"completed\"",
        |d, v| put(&mut d.depends_on, dependencies(v)),
    )
    .inside(of_dependencies)
    .flag(repeated(
        "depends-on",
        "APP[:STATE]",
        "Start after APP is ready, or started, healthy or completed, and stop before it (may be repeated)",
    )),
    key("on_reload_failure", "\"rollback\", \"pause\" or \"continue\"", |d, v| {
        put(&mut d.on_reload_failure, on_reload_failure(v))
    })
    .flag(takes(
        "on-reload-failure",
        "WHAT",
        "When a new release fails: `rollback` to the one before, `pause` or `continue` [default: rollback]",
    )),
    key("out_file", "the path of a file", |d, v| put(&mut d.out, log_target(v)))
        .aliases(&["out", "output", "out_log"])
        .flag(takes("output", "FILE", "Where standard output goes; /dev/null discards it").short('o')),
    key("error_file", "the path of a file", |d, v| put(&mut d.err, log_target(v)))
        .aliases(&["error", "err", "err_file", "err_log"])
        .flag(takes("error", "FILE", "Where standard error goes; /dev/null discards it").short('e')),
    key("merge_logs", BOOL, |d, v| put(&mut d.merge_logs, boolean(v).map(Some))).aliases(&["combine_logs"]).flag(sets(
        true,
        "merge-logs",
        "One log file for all processes of the app",
    )),
];

/// Keys of PM2's that change nothing here: informational, internal, about its monitoring service, or (the last row)
/// without effect unless `watch` is on, which is refused itself.
pub static IGNORED: &[&str] = &[
    "vizion",
    "pmx",
    "automation",
    "source_map_support",
    "disable_source_map_support",
    "windows_hide",
    "windowsHide",
    "kill_retry_time",
    "force",
    "username",
    "post_update",
    "exec_timeout",
    "trace",
    "disable_trace",
    "v8",
    "event_loop_inspector",
    "deep_monitoring",
    "io",
    "install_url",
    "write",
    "km_link",
    "vizion_running",
    "ignore_watch",
    "watch_options",
    "watch_delay",
];

/// Flags of PM2's that change nothing here.
pub static IGNORED_FLAGS: &[&str] = &[
    "no-vizion",
    "no-pmx",
    "no-automation",
    "source-map-support",
    "disable-source-map-support",
    "trace",
    "disable-trace",
    "v8",
    "event-loop-inspector",
    "deep-monitoring",
];

/// Keys of PM2's that mean something and have no counterpart here yet.
pub static UNSUPPORTED: &[&str] = &[
    "name_prefix",
    "filter_env",
    "append_env_to_name",
    "port",
    "increment_var",
    "log_file",
    "log",
    "pid_file",
    "pid",
    "disable_logs",
    "log_type",
    "log_date_format",
    "time",
    "cron_restart",
    "cron",
    "watch",
];

const ANEW: &str = "it is fixed while the app exists: delete the app and start it anew, or start it from a config file";
const BOOL: &str = "true or false";
const TIME: &str = "a time: milliseconds, or a text such as \"500ms\", \"10s\" or \"5m\"";
