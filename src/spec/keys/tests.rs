//! The table is consistent, every row parses its values, and changes to an app are all or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::table::{IGNORED, IGNORED_FLAGS, KEYS, UNSUPPORTED};
use super::*;
use crate::spec::dependency::Condition;
use crate::spec::{Balance, Env, ExecMode, LogTarget, Share, Sharing, Shed, sample};

fn set(name: &str, value: &Value) -> Result<Draft, String> {
    let mut draft = Draft::default();
    match look_up(name) {
        Lookup::Known(key) => key.set(&mut draft, value).map(|()| draft).map_err(|mistake| mistake.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

fn with(change: impl FnOnce(&mut Draft)) -> Draft {
    let mut draft = Draft::default();
    change(&mut draft);
    draft
}

fn needs(apps: &[(&str, Condition)]) -> Draft {
    with(|d| d.depends_on = apps.iter().map(|(name, condition)| ((*name).to_owned(), *condition)).collect())
}

fn shares(ports: &[u16]) -> Sharing {
    Sharing { ports: ports.to_vec(), share: Share::Queue }
}

#[test]
fn spellings_and_flags_are_unique() {
    let mut spellings = BTreeSet::new();
    let mut flags = BTreeSet::new();
    for key in KEYS {
        for name in std::iter::once(&key.name).chain(key.aliases).copied() {
            assert!(spellings.insert(name), "{name}");
        }
        let Some(flag) = &key.flag else { continue };
        let longs = std::iter::once(&flag.long).chain(flag.aliases).map(|long| (*long).to_owned());
        for word in longs.chain(flag.short.map(String::from)) {
            assert!(flags.insert(word.clone()), "{word}");
        }
    }
    for name in IGNORED.iter().chain(UNSUPPORTED) {
        assert!(spellings.insert(name), "{name}");
    }
    for long in IGNORED_FLAGS {
        assert!(flags.insert((*long).to_owned()), "{long}");
    }
}

#[test]
fn every_spelling_of_every_key_is_found_in_both_cases() {
    for key in KEYS {
        for name in std::iter::once(&key.name).chain(key.aliases) {
            let mut camel = String::new();
            for (index, part) in name.split('_').enumerate() {
                let (first, rest) = part.split_at(1);
                camel += &if index == 0 { first.to_owned() } else { first.to_uppercase() };
                camel += rest;
            }
            for spelling in [*name, camel.as_str()] {
                assert!(matches!(look_up(spelling), Lookup::Known(found) if found.name == key.name), "{spelling}");
            }
        }
    }
    assert!(matches!(look_up("windowsHide"), Lookup::Ignored));
    assert!(matches!(look_up("watch"), Lookup::Unsupported));
    assert!(matches!(look_up("logDateFormat"), Lookup::Unsupported));
}

#[test]
fn the_nearest_key_is_suggested() {
    for (typo, near) in [
        ("instance", Some("instances")),
        ("scrpt", Some("script")),
        ("scirpt", Some("script")),
        ("max_memory_restar", Some("max_memory_restart")),
        ("max-memory-restart", Some("max_memory_restart")),
        ("maxMemoryRestrat", Some("max_memory_restart")),
        ("Name", Some("name")),
        ("interpeter", Some("interpreter")),
        ("autorestrat", Some("autorestart")),
        ("wacth", Some("watch")),
        ("ars", Some("args")),
        ("health_check", Some("health")),
        ("x", None),
        ("", None),
    ] {
        match look_up(typo) {
            Lookup::Unknown { nearest } => assert_eq!(nearest.as_deref(), near, "{typo}"),
            other => panic!("{typo} is {other:?}"),
        }
    }
}

#[test]
fn values_are_parsed_into_the_draft() {
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Env>();
    let texts = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
    let millis = Duration::from_millis;
    for (name, value, draft) in [
        ("exec", json!("app.js"), with(|d| d.script = Some("app.js".into()))),
        ("name", json!(42), with(|d| d.name = Some("42".into()))),
        ("args", json!("--a 'b c'"), with(|d| d.args = texts(&["--a", "b c"]))),
        ("args", json!(["--port", 3000, true]), with(|d| d.args = texts(&["--port", "3000", "true"]))),
        ("nodeArgs", json!("--inspect"), with(|d| d.interpreter_args = texts(&["--inspect"]))),
        ("instances", json!("max"), with(|d| d.instances = Some(Instances::Max))),
        ("instances", json!(0), with(|d| d.instances = Some(Instances::Max))),
        ("instances", json!("4"), with(|d| d.instances = Some(Instances::Count(4)))),
        ("instances", json!(2.0), with(|d| d.instances = Some(Instances::Count(2)))),
        ("instances", json!(-1), with(|d| d.instances = Some(Instances::AllBut(1)))),
        ("exec_mode", json!("cluster_mode"), with(|d| d.mode = Some(ExecMode::Cluster))),
        ("execute_command", json!(true), with(|d| d.mode = Some(ExecMode::Fork))),
        ("execute_command", json!(false), Draft::default()),
        ("balance", json!("shared"), with(|d| d.balance = Balance::Shared)),
        ("cluster", json!({"ports": [80, "443"], "share": "queue"}), with(|d| d.sharing = shares(&[80, 443]))),
        ("cluster_ports", json!("80, 443"), with(|d| d.sharing.ports = vec![80, 443])),
        ("share", json!("queue"), with(|d| d.sharing = shares(&[]))),
        ("balance", json!("sticky"), with(|d| d.balance = Balance::Sticky)),
        ("balance", json!("least"), with(|d| d.balance = Balance::Least)),
        ("backlog", json!(4096), with(|d| d.queue.backlog = Some(4096))),
        ("max_connections", json!("100"), with(|d| d.queue.max_connections = Some(100))),
        ("queue_timeout", json!("5s"), with(|d| d.queue.timeout = Some(millis(5000)))),
        ("on_queue_timeout", json!("close"), with(|d| d.queue.shed = Shed::Close)),
        ("on_queue_timeout", json!(503), Draft::default()),
        ("env_file", json!(".env"), with(|d| d.env_files = vec![".env".into()])),
        ("env_file", json!(["a", "b c"]), with(|d| d.env_files = vec!["a".into(), "b c".into()])),
        ("autorestart", json!(false), with(|d| d.restart.autorestart = false)),
        ("autorestart", json!("false"), with(|d| d.restart.autorestart = false)),
        ("max_restarts", json!("5"), with(|d| d.restart.max_restarts = 5)),
        ("min_uptime", json!("5s"), with(|d| d.restart.min_uptime = millis(5000))),
        ("restart_delay", json!(1e3), with(|d| d.restart.delay = millis(1000))),
        ("exp_backoff_restart_delay", json!(100), with(|d| d.restart.backoff = Some(millis(100)))),
        ("exp_backoff_restart_delay", json!(0), Draft::default()),
        ("stop_exit_codes", json!(0), with(|d| d.restart.stop_exit_codes = vec![0])),
        ("stop_exit_codes", json!([0, "143"]), with(|d| d.restart.stop_exit_codes = vec![0, 143])),
        ("stop_exit_codes", json!("0, 3"), with(|d| d.restart.stop_exit_codes = vec![0, 3])),
        ("max_memory_restart", json!("300M"), with(|d| d.restart.max_memory = Some(300 << 20))),
        ("max_memory_restart", json!(1024), with(|d| d.restart.max_memory = Some(1024))),
        ("maxMemory", json!("300M"), with(|d| d.confinement.memory = Some(300 << 20))),
        ("cpu", json!(1.5), with(|d| d.confinement.cpu = Some(1500))),
        ("cpu", json!("150%"), with(|d| d.confinement.cpu = Some(1500))),
        ("cpu", json!("0.25"), with(|d| d.confinement.cpu = Some(250))),
        ("cpu", json!(0), Draft::default()),
        ("pids", json!("100"), with(|d| d.confinement.pids = Some(100))),
        ("nofile", json!(4096), with(|d| d.confinement.nofile = Some(4096))),
        (
            "limits",
            json!({"memory": "1G", "cpu": 2, "pids": 10, "nofile": null}),
            with(|d| {
                let limits = &mut d.confinement;
                (limits.memory, limits.cpu, limits.pids) = (Some(1 << 30), Some(2000), Some(10));
            }),
        ),
        ("user", json!("www-data"), with(|d| d.confinement.user = Some("www-data".into()))),
        ("uid", json!(33), with(|d| d.confinement.user = Some("33".into()))),
        ("group", json!(33), with(|d| d.confinement.group = Some("33".into()))),
        ("noNewPrivs", json!(true), with(|d| d.confinement.no_new_privs = true)),
        (
            "read_only_paths",
            json!(["/a", "b"]),
            with(|d| d.confinement.read_only_paths = vec!["/a".into(), "b".into()]),
        ),
        ("private_tmp", json!(true), with(|d| d.confinement.private_tmp = true)),
        ("kill_timeout", json!("3000"), with(|d| d.stop.kill_timeout = millis(3000))),
        ("drain_timeout", json!("1m"), with(|d| d.stop.drain_timeout = millis(60_000))),
        ("treekill", json!(false), with(|d| d.stop.tree = false)),
        ("listen_timeout", json!(500), with(|d| d.readiness.listen_timeout = Some(millis(500)))),
        ("out", json!("x.log"), with(|d| d.out = LogTarget::File("x.log".into()))),
        ("errLog", json!("/dev/null"), with(|d| d.err = LogTarget::Discard)),
        ("combine_logs", json!(true), with(|d| d.merge_logs = Some(true))),
        ("depends_on", json!("db, cache:healthy"), needs(&[("db", Condition::Ready), ("cache", Condition::Healthy)])),
        ("depends_on", json!(["db:started"]), needs(&[("db", Condition::Started)])),
        ("dependsOn", json!({"a:b": "completed"}), needs(&[("a:b", Condition::Completed)])),
        ("kill_timeout", Value::Null, Draft::default()),
        (
            "env",
            json!({"A": "x y", "B": 1, "C": true, "D": null, "E": {"k": [1]}, "F": 7.0, "G": 1.5, "H": ""}),
            with(|d| {
                d.env = env(&[
                    ("A", "x y"),
                    ("B", "1"),
                    ("C", "true"),
                    ("D", "null"),
                    ("E", r#"{"k":[1]}"#),
                    ("F", "7"),
                    ("G", "1.5"),
                    ("H", ""),
                ]);
            }),
        ),
    ] {
        assert_eq!(set(name, &value), Ok(draft), "{name}: {value}");
    }
}

#[test]
fn errors_name_the_expected_and_the_found_value() {
    for (name, value, why) in [
        ("instances", json!("many"), r#"expected a whole number of at most 10000, or "max", found "many""#),
        ("instances", json!(1.5), r#"expected a whole number of at most 10000, or "max", found 1.5"#),
        ("instances", json!(30000), r#"expected a whole number of at most 10000, or "max", found 30000"#),
        ("autorestart", json!("yes"), r#"expected true or false, found "yes""#),
        (
            "kill_timeout",
            json!("3 sheep"),
            r#"expected a time: milliseconds, or a text such as "500ms", "10s" or "5m", found "3 sheep""#,
        ),
        (
            "kill_timeout",
            json!(-1),
            r#"expected a time: milliseconds, or a text such as "500ms", "10s" or "5m", found -1"#,
        ),
        ("min_uptime", json!(99), r#"expected a time of at least 100 (milliseconds), such as 5000 or "5s", found 99"#),
        (
            "max_memory_restart",
            json!("300 MEGA"),
            r#"expected a size such as "300M", "1G" or a number of bytes, found "300 MEGA""#,
        ),
        (
            "cpu",
            json!("fast"),
            r#"expected processors, such as 0.5 or 2, or a percentage of one, such as "150%", found "fast""#,
        ),
        (
            "cpu",
            json!(-1),
            r#"expected processors, such as 0.5 or 2, or a percentage of one, such as "150%", found -1"#,
        ),
        ("max_memory", json!(300), r#"expected a size of at least 1M, such as "300M" or "1G", found 300"#),
        ("nofile", json!(3), "expected a whole number from 16 to 4294967295, found 3"),
        ("uid", json!(-1), "expected the name or number of a user, found -1"),
        ("limits", json!({"mem": 1}), "mem: unknown key, did you mean `memory`?"),
        (
            "stop_exit_codes",
            json!([0, 256]),
            "expected exit codes from 0 to 255, one or a list, found the list [0,256]",
        ),
        ("script", json!(""), "expected the path of a script, a program or a command line, found an empty string"),
        ("name", json!("all"), r#"expected a name: one line of text, not `all`, found "all""#),
        ("name", json!("a\nb"), r#"expected a name: one line of text, not `all`, found "a\nb""#),
        ("args", json!("don't"), r#"expected a list of strings, or one string with balanced quotes, found "don't""#),
        ("args", json!({}), "expected a list of strings, or one string with balanced quotes, found an object"),
        ("env", json!(["A=1"]), r#"expected an object of environment variables, found the list ["A=1"]"#),
        ("cwd", json!("a\0b"), r#"expected the path of a directory, found "a\0b""#),
    ] {
        assert_eq!(set(name, &value).map(|_| ()), Err(why.to_owned()), "{name}: {value}");
    }
    let long = set("autorestart", &json!("é".repeat(100))).unwrap_err();
    assert_eq!(long, format!("expected true or false, found \"{}...\"", "é".repeat(57)));
}

#[test]
fn no_value_makes_any_key_panic() {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-0.0),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e19),
        json!(""),
        json!(" "),
        json!("\0"),
        json!("🦀"),
        json!("max"),
        json!("-1"),
        json!("1e999"),
        json!("99999999999999999999s"),
        json!([]),
        json!([[]]),
        json!([null, 1, "a\0"]),
        json!({}),
        json!({"": 1}),
        json!({"A=B": 1}),
        json!({"A": "\0"}),
    ];
    for key in KEYS {
        for value in &values {
            let _ = key.set(&mut Draft::default(), value);
        }
    }
}

#[test]
fn all_changes_are_applied_together() {
    let mut spec = sample();
    spec.env.insert("KEPT".into(), "1".into());
    std::sync::Arc::make_mut(&mut spec.base_env).insert("HOME".into(), "/home/u".into());
    let settings = [
        ("max_memory_restart", json!("300M")),
        ("args", json!(["new", "args"])),
        ("node_args", json!("--inspect")),
        ("env", json!({"ADDED": 2})),
        ("out_file", json!("logs/x.log")),
        ("error_file", json!("~/e.log")),
        ("wait_ready", json!(true)),
        ("vizion", json!(false)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    apply_changes(&mut spec, &settings).unwrap();
    let mut expected = sample();
    expected.restart.max_memory = Some(300 << 20);
    expected.args = vec!["new".into(), "args".into()];
    let Program::Script { interpreter_args, .. } = &mut expected.program else { panic!() };
    interpreter_args.push("--inspect".into());
    expected.env = [("KEPT".into(), "1".into()), ("ADDED".into(), "2".into())].into();
    std::sync::Arc::make_mut(&mut expected.base_env).insert("HOME".into(), "/home/u".into());
    expected.logs.out = LogTarget::File("/srv/logs/x.log".into());
    expected.logs.err = LogTarget::File("/home/u/e.log".into());
    expected.readiness.wait_ready = true;
    assert_eq!(spec, expected);
    apply_changes(&mut spec, &[]).unwrap();
    assert_eq!(spec, expected);
}

#[test]
fn a_change_with_a_mistake_leaves_the_app_unchanged() {
    let line = Program::CommandLine { line: "sleep 1".into(), shell: "/bin/sh".into() };
    let binary = Program::Binary { path: "/bin/sleep".into() };
    for (program, key, value, why) in [
        (
            None,
            "kill_timeout",
            json!("x"),
            "expected a time: milliseconds, or a text such as \"500ms\", \"10s\" or \"5m\", found \"x\"",
        ),
        (None, "instances", json!(4), "the number of processes is changed by `pmr scale`"),
        (
            None,
            "cwd",
            json!("/x"),
            "it is fixed while the app exists: delete the app and start it again, or start it from a config file",
        ),
        (None, "env_file", json!("x"), "files of variables are read by `pmr start` only"),
        (None, "watch", json!(true), "`watch` is a PM2 key that pmr does not support yet"),
        (None, "nonsense", json!(1), "there is no such setting"),
        (Some(line), "args", json!(["x"]), "the app is a command line, which has none"),
        (Some(binary), "interpreter_args", json!(["x"]), "the app has no interpreter"),
    ] {
        let before = AppSpec { program: program.unwrap_or(sample().program), ..sample() };
        let mut spec = before.clone();
        let settings = [("max_restarts".to_owned(), json!(1)), (key.to_owned(), value)];
        assert_eq!(apply_changes(&mut spec, &settings), Err((key.to_owned(), why.to_owned())));
        assert_eq!(spec, before);
    }
}

#[test]
fn the_number_of_instances_depends_on_the_processors() {
    for (instances, cpus, count) in [
        (Instances::Max, 8, 8),
        (Instances::Max, 0, 1),
        (Instances::Count(3), 8, 3),
        (Instances::AllBut(1), 8, 7),
        (Instances::AllBut(9), 8, 1),
    ] {
        assert_eq!(instances.on(cpus), count);
    }
}
