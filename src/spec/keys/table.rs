//! Data table: every key of an app.
//!
//! To add a key: give it a field in [`super::Draft`] (or in one of the rules a draft holds) and a row in
//! [`KEYS`]; remove it from [`UNSUPPORTED`].

use super::form::Fallback::{Value, Words, Zero};
use super::form::{Form, Group};
use super::key::Key;
use super::members::{CLUSTER, HEALTH, LIMITS, of_cluster, of_dependencies, of_health, of_limits};
use super::objects::{cluster, dependencies, health, share};
use super::read::{
    Unfit, balance, boolean, bytes_or_none, count, count_or_none, cpu, duration, duration_or_none, endpoints,
    exec_mode, exit_codes, instances, limits, list, log_target, memory_limit, name, name_or_number, nofile,
    on_reload_failure, paths, ports, put, shed, variable, variables, word, words,
};
use super::row::{about, dashed, key, repeated, sets, several, takes};
use crate::spec::ExecMode;
use std::time::Duration;

/// All keys, in the order of `--help`.
pub static KEYS: &[Key] = &[
    key("script", "the path of a script, a program or a command line", |d, v| put(&mut d.script, word(v).map(Some)))
        .about(about(
            Group::Program,
            Form::Text,
            Words("none: it is required"),
            "\"app.js\"",
            "What is run: the path of a script or a program, or a command line. A file is run by \
             the interpreter for its type; text with spaces that is no file is run by the shell.",
        ))
        .aliases(&["exec", "cmd", "command"])
        .fixed(FIXED),
    key("name", "a name: one line of text, not `all`", |d, v| put(&mut d.name, name(v).map(Some)))
        .about(about(
            Group::Program,
            Form::Name,
            Words("the script's, without extension"),
            "\"api\"",
            "Name of the app, which `pmr list` shows and other commands take. Two apps of one \
             namespace have different names.",
        ))
        .flag(takes("name", "NAME", "Name of the app").short('n'))
        .fixed(FIXED),
    key("namespace", "a name: one line of text, not `all`", |d, v| put(&mut d.namespace, name(v).map(Some)))
        .about(about(
            Group::Program,
            Form::Name,
            Value("\"default\""),
            "\"shop\"",
            "Group the app belongs to. Commands take a namespace in place of the names of all \
             its apps.",
        ))
        .flag(takes("namespace", "NAME", "Group the app belongs to"))
        .fixed(FIXED),
    key("instances", "a whole number of at most 10000, or \"max\"", |d, v| {
        put(&mut d.instances, instances(v).map(Some))
    })
    .about(about(
        Group::Cluster,
        Form::Instances,
        Words("1"),
        "\"max\"",
        "Number of processes. `\"max\"` or 0 is one for each processor, -1 one fewer. With \
             this key the app is a cluster, unless `exec_mode` says otherwise.",
    ))
    .flag(
        dashed("instances", "N", "Number of processes: a number, `max` (or 0) for one per CPU, -1 for one fewer")
            .short('i'),
    )
    .fixed("the number of processes is changed by `pmr scale`"),
    key("exec_mode", "\"fork\" or \"cluster\"", |d, v| put(&mut d.mode, exec_mode(v).map(Some)))
        .about(about(
            Group::Cluster,
            Form::Choice(&["fork", "cluster", "fork_mode", "cluster_mode"]),
            Words("`cluster` with `instances` or `listen`, else `fork`"),
            "\"cluster\"",
            "`cluster`: the processes share their ports. `fork`: they do not.",
        ))
        .flag(takes("exec-mode", "MODE", "`cluster`: the processes share their ports; `fork`: they do not"))
        .fixed(FIXED),
    key("execute_command", BOOL, |d, v| {
        if boolean(v)? {
            d.mode = Some(ExecMode::Fork);
        }
        Ok(())
    })
    .about(about(Group::Cluster, Form::Boolean, Value("false"), "true", "`true` is the same as `exec_mode: \"fork\"`."))
    .flag(sets(true, "execute-command", "The same as --exec-mode fork").short('x'))
    .fixed(FIXED),
    key("balance", "\"round_robin\", \"sticky\", \"least\" or \"shared\"", |d, v| put(&mut d.balance, balance(v)))
        .about(about(
            Group::Cluster,
            Form::Choice(&["round_robin", "sticky", "least", "shared"]),
            Value("\"round_robin\""),
            "\"least\"",
            "How connections are distributed to the workers: in turn, by the address of the client \
             (`sticky`), to the worker with the fewest open connections (`least`: in Node and on \
             pmr's own channel), or not at all (`shared`: the workers accept them themselves).",
        ))
        .flag(takes(
            "balance",
            "HOW",
            "How connections are distributed to the workers: `round_robin`, `sticky` by client \
             address, `least` open connections first (in Node and on pmr's own channel), or \
             `shared`: workers accept them themselves",
        ))
        .fixed(FIXED),
    key("backlog", "a whole number", |d, v| put(&mut d.queue.backlog, count_or_none(v)))
        .about(about(
            Group::Cluster,
            Form::Count { least: 0, zero: true },
            Words("511 where pmr accepts, else 1024, or what the app asks for"),
            "4096",
            "Minimum length of the accept queue of a cluster's ports, in connections.",
        ))
        .flag(takes("backlog", "N", "Minimum length of the accept queue of a cluster's ports"))
        .fixed(FIXED),
    key("max_connections", "a whole number", |d, v| put(&mut d.queue.max_connections, count_or_none(v)))
        .about(about(
            Group::Cluster,
            Form::Count { least: 0, zero: true },
            Zero("no limit"),
            "1000",
            "Limit of open connections of one worker, in Node or on pmr's own channel. More \
             connections wait.",
        ))
        .flag(takes(
            "max-connections",
            "N",
            "Limit of open connections of a worker, in Node or on pmr's own channel; more wait",
        ))
        .fixed(FIXED),
    key("queue_timeout", TIME, |d, v| put(&mut d.queue.timeout, duration_or_none(v)))
        .about(about(
            Group::Cluster,
            Form::Time { least: 0 },
            Zero("as long as it takes"),
            "\"5s\"",
            "How long a connection waits for a worker of a cluster, or at an address of `listen`.",
        ))
        .flag(takes("queue-timeout", "TIME", "How long a connection waits for a worker of a cluster, or at --listen"))
        .fixed(FIXED),
    key("on_queue_timeout", "\"503\" or \"close\"", |d, v| put(&mut d.queue.shed, shed(v)))
        .about(about(
            Group::Cluster,
            Form::Choice(&["503", "close"]),
            Value("\"503\""),
            "\"close\"",
            "What happens to a connection after the `queue_timeout`: `503` sends a plain HTTP \
                 response, `close` closes it.",
        ))
        .flag(takes("on-queue-timeout", "WHAT", "After that time: `503`, a plain HTTP response, or `close`"))
        .fixed(FIXED),
    key("cluster", "an object of `ports` (numbers from 1 to 65535) and `share` (\"own\" or \"queue\")", |d, v| {
        cluster(&mut d.sharing, v)
    })
    .about(about(
        Group::Cluster,
        Form::Object(CLUSTER),
        Words("all ports are shared"),
        "{ \"ports\": [3000], \"share\": \"queue\" }",
        "Which ports a cluster shares, and how; the same as `cluster_ports` and `share`.",
    ))
    .inside(of_cluster),
    key("cluster_ports", "numbers from 1 to 65535, one or a list", |d, v| put(&mut d.sharing.ports, ports(v)))
        .about(about(
            Group::Cluster,
            Form::Numbers { from: 1, to: 65535 },
            Words("all"),
            "[3000, 3001]",
            "Ports that a cluster shares. Each process has its other ports for itself.",
        ))
        .flag(several("cluster-ports", "PORT", "Ports that a cluster shares; others are each process's own")),
    key("share", "\"own\" or \"queue\"", |d, v| put(&mut d.sharing.share, share(v)))
        .about(about(
            Group::Cluster,
            Form::Choice(&["own", "queue"]),
            Value("\"own\""),
            "\"queue\"",
            "Where connections wait: `own`, a queue for each process, or `queue`, one queue for all.",
        ))
        .flag(takes(
            "share",
            "HOW",
            "Where connections wait: `own`, a queue for each process, or `queue`, one for all",
        )),
    key("cwd", "the path of a directory", |d, v| put(&mut d.cwd, word(v).map(Some)))
        .about(about(
            Group::Program,
            Form::Path,
            Words("the current directory"),
            "\"/srv/api\"",
            "Working directory of the app. Relative paths of other keys start here.",
        ))
        .flag(takes("cwd", "DIR", "Working directory of the app"))
        .fixed(FIXED),
    key("args", "a list of strings, or one string with balanced quotes", |d, v| put(&mut d.args, words(v).map(Some)))
        .about(about(Group::Program, Form::Words, Value("[]"), "[\"--port\", \"3000\"]", "Arguments of the app.")),
    key("interpreter", "the name or path of an interpreter, or \"none\"", |d, v| {
        put(&mut d.interpreter, word(v).map(Some))
    })
    .about(about(
        Group::Program,
        Form::Text,
        Words("by extension"),
        "\"python3\"",
        "What runs the script: a name or a path. `\"none\"` executes the script directly.",
    ))
    .aliases(&["exec_interpreter"])
    .flag(takes("interpreter", "PROGRAM", "What runs the script; `none` executes it directly"))
    .fixed(FIXED),
    key("interpreter_args", "a list of strings, or one string with balanced quotes", |d, v| {
        put(&mut d.interpreter_args, words(v).map(Some))
    })
    .about(about(
        Group::Program,
        Form::Words,
        Value("[]"),
        "\"--max-old-space-size=512\"",
        "Arguments of the interpreter, before the script.",
    ))
    .aliases(&["node_args"])
    .flag(dashed("interpreter-args", "ARGS", "Arguments of the interpreter, in quotes").aliases(&["node-args"])),
    key("env", "an object of environment variables", |d, v| {
        d.env.extend(variables(v)?);
        Ok(())
    })
    .about(about(
        Group::Environment,
        Form::Variables,
        Value("{}"),
        "{ \"NODE_ENV\": \"production\" }",
        "Environment variables of the app. They win over `env_file` and over the variables \
             of the shell.",
    )),
    key("env_file", "the path of a file, or a list of paths", |d, v| put(&mut d.env_files, list(v)))
        .about(about(
            Group::Environment,
            Form::Paths,
            Value("[]"),
            "\".env\"",
            "Files of environment variables. Later files win over earlier ones.",
        ))
        .flag(repeated("env-file", "FILE", "Read environment variables from FILE (may be repeated)"))
        .fixed("files of variables are read by `pmr start` only"),
    key("instance_var", "the name of an environment variable", |d, v| put(&mut d.instance_var, variable(v)))
        .about(about(
            Group::Environment,
            Form::Variable,
            Value("\"NODE_APP_INSTANCE\""),
            "\"WORKER\"",
            "Variable with the number of the process among the instances, counted from 0.",
        ))
        .flag(takes("instance-var", "VAR", "Variable with the number of the instance"))
        .fixed(FIXED),
    key("autostart", BOOL, |d, v| put(&mut d.autostart, boolean(v)))
        .about(about(
            Group::Restarts,
            Form::Boolean,
            Value("true"),
            "false",
            "`false` adds the app to the list without starting it.",
        ))
        .flag(sets(false, "no-autostart", "Add the app without starting it")),
    key("autorestart", BOOL, |d, v| put(&mut d.restart.autorestart, boolean(v)))
        .about(about(
            Group::Restarts,
            Form::Boolean,
            Value("true"),
            "false",
            "`false`: a process that has ended stays stopped.",
        ))
        .flag(sets(false, "no-autorestart", "Do not restart the app when it exits")),
    key("max_restarts", "a whole number", |d, v| put(&mut d.restart.max_restarts, count(v)))
        .about(about(
            Group::Restarts,
            Form::Count { least: 0, zero: true },
            Value("16"),
            "5",
            "Limit of unstable restarts in a row. After that the process has the state `errored` \
                 and is not restarted.",
        ))
        .flag(takes("max-restarts", "N", "Give up after N unstable restarts")),
    key("min_uptime", "a time of at least 100 (milliseconds), such as 5000 or \"5s\"", |d, v| {
        let time = duration(v)?;
        if time < Duration::from_millis(100) { Err(Unfit) } else { put(&mut d.restart.min_uptime, Ok(time)) }
    })
    .about(about(
        Group::Restarts,
        Form::Time { least: 100 },
        Value("\"1s\""),
        "\"5s\"",
        "A process that ends sooner than this after its start is unstable.",
    ))
    .flag(takes("min-uptime", "TIME", "An exit before this is unstable")),
    key("restart_delay", TIME, |d, v| put(&mut d.restart.delay, duration(v)))
        .about(about(Group::Restarts, Form::Time { least: 0 }, Value("0"), "500", "Wait before each restart."))
        .flag(takes("restart-delay", "TIME", "Wait before each restart")),
    key("exp_backoff_restart_delay", TIME, |d, v| put(&mut d.restart.backoff, duration_or_none(v)))
        .about(about(
            Group::Restarts,
            Form::Time { least: 0 },
            Zero("off"),
            "100",
            "First wait before a restart. Each further wait is longer by half, up to 15 seconds. \
             It wins over `restart_delay`.",
        ))
        .flag(takes("exp-backoff-restart-delay", "TIME", "Wait before a restart, growing by half each time up to 15s")),
    key("stop_exit_codes", "exit codes from 0 to 255, one or a list", |d, v| {
        put(&mut d.restart.stop_exit_codes, exit_codes(v))
    })
    .about(about(
        Group::Restarts,
        Form::Numbers { from: 0, to: 255 },
        Value("[]"),
        "[0, 143]",
        "Exit codes after which a process is not restarted.",
    ))
    .flag(several("stop-exit-codes", "CODE", "Exit codes after which the app is not restarted")),
    key("max_memory_restart", "a size such as \"300M\", \"1G\" or a number of bytes", |d, v| {
        put(&mut d.restart.max_memory, bytes_or_none(v))
    })
    .about(about(
        Group::Restarts,
        Form::Size { least: 0 },
        Zero("no limit"),
        "\"300M\"",
        "A process that uses more resident memory than this, its children included, is replaced.",
    ))
    .flag(takes("max-memory-restart", "SIZE", "Replace a process that uses more memory than this, such as 300M")),
    key(
        "limits",
        "an object of `memory` (\"300M\"), `cpu` (1.5 or \"150%\"), `pids` and `nofile` \
             (whole numbers)",
        |d, v| limits(&mut d.confinement, v),
    )
    .about(about(
        Group::Limits,
        Form::Object(LIMITS),
        Words("no limits"),
        "{ \"memory\": \"1G\", \"cpu\": 1.5 }",
        "Limits of each process in one object; the same as `max_memory`, `cpu`, `pids` and \
             `nofile`.",
    ))
    .inside(of_limits),
    key("max_memory", "a size of at least 1M, such as \"300M\" or \"1G\"", |d, v| {
        put(&mut d.confinement.memory, memory_limit(v))
    })
    .about(about(
        Group::Limits,
        Form::Size { least: 1 << 20 },
        Zero("no limit"),
        "\"1G\"",
        "The kernel kills a process that takes more memory than this.",
    ))
    .flag(takes(
        "max-memory",
        "SIZE",
        "The kernel kills a process that takes more memory than this, such as 300M",
    )),
    key("cpu", "processors, such as 0.5 or 2, or a percentage of one, such as \"150%\"", |d, v| {
        put(&mut d.confinement.cpu, cpu(v))
    })
    .about(about(
        Group::Limits,
        Form::Processors,
        Zero("no limit"),
        "\"150%\"",
        "Processor time that a process may use: 0.5, or `\"50%\"`, is half of one processor.",
    ))
    .flag(takes("cpu", "CPUS", "Processor time a process may use: 0.5, or 50%, is half of one processor")),
    key("pids", "a whole number", |d, v| put(&mut d.confinement.pids, count_or_none(v)))
        .about(about(
            Group::Limits,
            Form::Count { least: 0, zero: true },
            Zero("no limit"),
            "100",
            "Limit of processes and threads of a process, itself included.",
        ))
        .flag(takes("pids", "N", "Limit of processes and threads of a process, itself included")),
    key("nofile", "a whole number from 16 to 4294967295", |d, v| put(&mut d.confinement.nofile, nofile(v)))
        .about(about(
            Group::Limits,
            Form::Count { least: 16, zero: true },
            Zero("no limit of its own"),
            "65536",
            "Limit of open files of a process.",
        ))
        .flag(takes("nofile", "N", "Limit of open files of a process")),
    key("uid", "the name or number of a user", |d, v| put(&mut d.confinement.user, name_or_number(v).map(Some)))
        .about(about(
            Group::Security,
            Form::Account,
            Words("the daemon's user"),
            "\"www-data\"",
            "User that the app runs as.",
        ))
        .aliases(&["user"])
        .flag(takes("uid", "USER", "Run the app as this user, by name or number").aliases(&["user"])),
    key("gid", "the name or number of a group", |d, v| put(&mut d.confinement.group, name_or_number(v).map(Some)))
        .about(about(
            Group::Security,
            Form::Account,
            Words("the user's"),
            "\"www-data\"",
            "Group that the app runs with.",
        ))
        .aliases(&["group"])
        .flag(takes("gid", "GROUP", "Run the app with this group").aliases(&["group"])),
    key("no_new_privs", BOOL, |d, v| put(&mut d.confinement.no_new_privs, boolean(v)))
        .about(about(
            Group::Security,
            Form::Boolean,
            Value("false"),
            "true",
            "`true`: no program that the app executes gains privileges.",
        ))
        .flag(sets(true, "no-new-privs", "No program that the app executes gains privileges")),
    key("read_only_paths", "a path, or a list of paths", |d, v| put(&mut d.confinement.read_only_paths, paths(v)))
        .about(about(
            Group::Security,
            Form::Paths,
            Value("[]"),
            "[\"/srv/api\", \"/etc\"]",
            "Paths that the app cannot change, including everything in them.",
        ))
        .flag(repeated("read-only-path", "PATH", "The app cannot change PATH or anything in it (may be repeated)")),
    key("private_tmp", BOOL, |d, v| put(&mut d.confinement.private_tmp, boolean(v)))
        .about(about(
            Group::Security,
            Form::Boolean,
            Value("false"),
            "true",
            "`true`: the app has its own `/tmp` and `/var/tmp`.",
        ))
        .flag(sets(true, "private-tmp", "The app has its own /tmp and /var/tmp")),
    key("kill_timeout", TIME, |d, v| put(&mut d.stop.kill_timeout, duration(v)))
        .about(about(
            Group::Stop,
            Form::Time { least: 0 },
            Value("\"1600ms\""),
            "\"5s\"",
            "Time that a process has to exit after the stop signal, before SIGKILL.",
        ))
        .flag(takes("kill-timeout", "TIME", "Time to exit after the stop signal, before SIGKILL").short('k')),
    key("drain_timeout", TIME, |d, v| put(&mut d.stop.drain_timeout, duration(v)))
        .about(about(
            Group::Stop,
            Form::Time { least: 0 },
            Value("\"10s\""),
            "\"1m\"",
            "Longest time that a replaced worker has to finish its requests, before the stop signal.",
        ))
        .flag(takes("drain-timeout", "TIME", "Time for a replaced worker to finish its requests")),
    key("shutdown_with_message", BOOL, |d, v| put(&mut d.stop.with_message, boolean(v)))
        .about(about(
            Group::Stop,
            Form::Boolean,
            Value("false"),
            "true",
            "`true`: a process is stopped with the message `shutdown` on its IPC channel in \
             place of a signal.",
        ))
        .flag(sets(true, "shutdown-with-message", "Stop with the message `shutdown` in place of a signal")),
    key("treekill", BOOL, |d, v| put(&mut d.stop.tree, boolean(v)))
        .about(about(
            Group::Stop,
            Form::Boolean,
            Value("true"),
            "false",
            "`false`: the stop signal goes to the main process only, not to its children. \
             SIGKILL goes to all in either case.",
        ))
        .flag(sets(false, "no-treekill", "Send the stop signal to the main process only")),
    key("wait_ready", BOOL, |d, v| put(&mut d.readiness.wait_ready, boolean(v)))
        .about(about(
            Group::Health,
            Form::Boolean,
            Value("false"),
            "true",
            "`true`: a process is ready when it reports so, by the message `ready` on its IPC \
             channel or by `READY=1` to `NOTIFY_SOCKET`.",
        ))
        .flag(sets(true, "wait-ready", "A process is ready when it sends the message `ready`")),
    key("listen_timeout", TIME, |d, v| put(&mut d.readiness.listen_timeout, duration_or_none(v)))
        .about(about(
            Group::Health,
            Form::Time { least: 0 },
            Words("3s, at a reload 30s"),
            "\"10s\"",
            "Longest wait for a process to be ready.",
        ))
        .flag(takes("listen-timeout", "TIME", "Longest wait for a process to be ready")),
    key("watchdog", TIME, |d, v| put(&mut d.watchdog, duration_or_none(v)))
        .about(about(
            Group::Health,
            Form::Time { least: 0 },
            Zero("off"),
            "\"30s\"",
            "A process that has not sent `WATCHDOG=1` to `NOTIFY_SOCKET` for this time is \
                 restarted.",
        ))
        .flag(takes(
            "watchdog",
            "TIME",
            "Restart a process that has not sent WATCHDOG=1 to NOTIFY_SOCKET for this time",
        )),
    key(
        "listen",
        "\"tcp://HOST:PORT\", \"udp://HOST:PORT\" or \"unix:///PATH\", an object of `url`, \
             `name` and `mode`, or a list",
        |d, v| put(&mut d.activation.listen, endpoints(v)),
    )
    .about(about(
        Group::Sockets,
        Form::Endpoints,
        Value("[]"),
        "[\"tcp://0.0.0.0:8080\", \"unix:///run/api.sock\"]",
        "Sockets that pmr opens for the app, which inherits them from descriptor 3 on: \
             `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:///PATH`, or an object of `url`, \
             `name` and `mode` (octal permissions of a Unix path).",
    ))
    .flag(repeated(
        "listen",
        "ADDRESS",
        "Open tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH for the app, which inherits it \
             as fd 3 (may be repeated)",
    ))
    .fixed(FIXED),
    key("idle_timeout", TIME, |d, v| put(&mut d.activation.idle_timeout, duration_or_none(v)))
        .about(about(
            Group::Sockets,
            Form::Time { least: 0 },
            Zero("off"),
            "\"10m\"",
            "Time without a connection to an address of `listen` after which the processes are \
                 stopped. The next connection starts them.",
        ))
        .flag(takes(
            "idle-timeout",
            "TIME",
            "Stop processes after this time without a connection to a --listen address; the next \
                 one starts them",
        )),
    key("min_instances", "a whole number", |d, v| put(&mut d.activation.min_instances, count(v).map(Some)))
        .about(about(
            Group::Sockets,
            Form::Count { least: 0, zero: true },
            Words("0"),
            "1",
            "Number of processes that stay after the `idle_timeout`.",
        ))
        .flag(takes("min-instances", "N", "Number of processes that stay after the idle timeout")),
    key(
        "health",
        "a path or URL (\"/healthz\"), \"tcp:PORT\", \"exec:COMMAND\" or \"log:TEXT\", or an \
             object of one of `http` (\"/healthz\", \"http://host:port/path\"), `tcp` (a port, \
             \"host:port\"), `exec` (a command line, or a list of words) and `log` (a text, \"/a \
             regular expression/\"), with `interval`, `timeout`, `retries`, `start_period`, \
             `on_fail` (\"restart\", \"alert\", \"none\")",
        |d, v| put(&mut d.health, health(v).map(Some)),
    )
    .about(about(
        Group::Health,
        Form::Check(HEALTH),
        Words("no check"),
        "{ \"http\": \"/healthz\", \"interval\": \"5s\" }",
        "A process is ready and healthy when it passes this check. Short form: a path or \
             URL, `\"tcp:PORT\"`, `\"exec:COMMAND\"`, `\"log:TEXT\"` or `\"log:/REGEX/\"`. Full \
             form: an object of one of `http`, `tcp`, `exec` and `log`, with settings.",
    ))
    .inside(of_health)
    .flag(takes(
        "health",
        "CHECK",
        "A process is ready and healthy when it passes: a GET of PATH or URL, tcp:PORT, \
             exec:COMMAND, log:TEXT, log:/REGEX/",
    )),
    key(
        "depends_on",
        "names of apps, such as \"db\" (it must be ready) or \"db:healthy\", or an object \
             such as {db: \"healthy\"}, of \"started\", \"ready\", \"healthy\" and \"completed\"",
        |d, v| put(&mut d.depends_on, dependencies(v)),
    )
    .about(about(
        Group::Health,
        Form::Dependencies,
        Value("{}"),
        "{ \"db\": \"healthy\" }",
        "Apps that are started before this one and stopped after it. It waits until each of \
             them is `started`, `ready` (the default), `healthy` or `completed`. Short \
             form: `\"db\"`, `\"db:healthy\"`, or a list of those.",
    ))
    .inside(of_dependencies)
    .flag(repeated(
        "depends-on",
        "APP[:STATE]",
        "Start after APP is ready, or started, healthy or completed, and stop before it (may \
             be repeated)",
    )),
    key("on_reload_failure", "\"rollback\", \"pause\" or \"continue\"", |d, v| {
        put(&mut d.on_reload_failure, on_reload_failure(v))
    })
    .about(about(
        Group::Stop,
        Form::Choice(&["rollback", "pause", "continue"]),
        Value("\"rollback\""),
        "\"pause\"",
        "What a reload does when new processes fail: `rollback` to the previous release, \
             `pause` and leave the processes as they are, or `continue` with the others.",
    ))
    .flag(takes(
        "on-reload-failure",
        "WHAT",
        "When a new release fails: `rollback` to the previous one, `pause` or `continue`",
    )),
    key("out_file", "the path of a file", |d, v| put(&mut d.out, log_target(v)))
        .about(about(
            Group::Logs,
            Form::Path,
            Words("`logs/NAME-out.log` in pmr's home"),
            "\"/var/log/api/out.log\"",
            "File for standard output. `/dev/null` discards it.",
        ))
        .aliases(&["out", "output", "out_log"])
        .flag(takes("output", "FILE", "File for standard output; /dev/null discards it").short('o')),
    key("error_file", "the path of a file", |d, v| put(&mut d.err, log_target(v)))
        .about(about(
            Group::Logs,
            Form::Path,
            Words("`logs/NAME-error.log` in pmr's home"),
            "\"/var/log/api/error.log\"",
            "File for standard error. `/dev/null` discards it.",
        ))
        .aliases(&["error", "err", "err_file", "err_log"])
        .flag(takes("error", "FILE", "File for standard error; /dev/null discards it").short('e')),
    key("merge_logs", BOOL, |d, v| put(&mut d.merge_logs, boolean(v).map(Some)))
        .about(about(
            Group::Logs,
            Form::Boolean,
            Words("`true`, but `false` with a number of `instances` or in `exec_mode: \"cluster\"`"),
            "true",
            "`true`: one log file for all processes of the app. `false`: the name of each file \
             ends with the number of its process.",
        ))
        .aliases(&["combine_logs"])
        .flag(sets(true, "merge-logs", "One log file for all processes of the app")),
];

/// Keys of PM2 without effect in pmr: informational, internal, about its monitoring service, or (the last row) without
/// effect unless `watch` is on, which is refused itself.
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

/// Flags of PM2 without effect in pmr.
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

/// Keys of PM2 with an effect that pmr does not have yet.
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

const FIXED: &str = "it is fixed while the app exists: delete the app and start it again, or start it \
             from a config file";
const BOOL: &str = "true or false";
const TIME: &str = "a time: milliseconds, or a text such as \"500ms\", \"10s\" or \"5m\"";
