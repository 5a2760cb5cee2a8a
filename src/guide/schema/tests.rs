//! The schema against the real reader: it takes what the reader takes, and refuses what is plainly wrong.

use jsonschema::Validator;
use serde_json::{Value, json};

use super::*;
use crate::spec::ecosystem::text::{Format, read_text};
use crate::spec::ecosystem::{self, Options};

fn validator() -> Validator {
    let schema = super::ecosystem();
    jsonschema::meta::validate(&schema).expect("the schema is a schema");
    jsonschema::validator_for(&schema).expect("the schema can be used")
}

fn is_read(value: &Value) -> bool {
    ecosystem::parse(value.clone(), &Options::default()).is_ok()
}

fn with(key: &str, value: &Value) -> Value {
    let mut app = json!({ "script": "app.js" });
    app[key] = value.clone();
    app
}

/// Values of every sort, fitting and not.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!("false"),
        json!(0),
        json!(-1),
        json!(-0.0),
        json!(1),
        json!(2.0),
        json!(0.5),
        json!(16),
        json!(99),
        json!(503),
        json!(1e3),
        json!(70_000),
        json!(u64::MAX),
        json!(""),
        json!(" "),
        json!("x"),
        json!("all"),
        json!("A=B"),
        json!(" 5 "),
        json!("+5"),
        json!("-1"),
        json!("1,2"),
        json!("1m 30s"),
        json!("1.5 GiB"),
        json!("300M"),
        json!("50 %"),
        json!(".5"),
        json!("max"),
        json!("/dev/null"),
        json!("tcp:5432"),
        json!("http://127.0.0.1/x"),
        json!("exec:true"),
        json!("log:/up|ready/"),
        json!("tcp://:80"),
        json!("web=unix:///run/x.sock"),
        json!("db:healthy, mq"),
        json!([]),
        json!([1, "2"]),
        json!(["a", 1, true]),
        json!(["a", "b:started"]),
        json!([null]),
        json!(["tcp://*:80", { "url": "unix:///run/x", "mode": "0660", "name": null }]),
        json!({}),
        json!({ "A": 1, "B": null, "C": [1] }),
        json!({ "A=B": 1 }),
        json!({ "db": "healthy" }),
        json!({ "http": "/up", "tcp": null, "interval": 500, "retries": "2", "on_fail": "alert" }),
        json!({ "tcp": "5432", "timeout": "2s", "start_period": 0 }),
        json!({ "tcp": "db:5432" }),
        json!({ "exec": ["test", "-z", ""] }),
        json!({ "memory": "1G", "cpu": "150%", "pids": 0, "nofile": null }),
        json!({ "memory": 0, "nofile": 1024 }),
        json!({ "ports": "80, 443", "share": "queue" }),
    ];
    values.extend(KEYS.iter().filter_map(|key| parsed(key.about.example)));
    values.extend(KEYS.iter().filter_map(|key| parsed(key.about.fallback.json()?)));
    values
}

#[test]
fn what_the_reader_takes_the_schema_takes() {
    let validator = validator();
    let mut taken = 0;
    for spelling in KEYS.iter().flat_map(Key::spellings).chain(["env_production".to_owned()]) {
        for value in values() {
            let app = with(&spelling, &value);
            if is_read(&app) {
                taken += 1;
                assert!(validator.is_valid(&app), "{spelling}: {value}");
            }
        }
    }
    for name in IGNORED.iter().chain(UNSUPPORTED) {
        for spelling in [(*name).to_owned(), form::camel_case(name)] {
            for value in values().iter().filter(|value| is_read(&with(&spelling, value))) {
                assert!(validator.is_valid(&with(&spelling, value)), "{spelling}: {value}");
            }
        }
    }
    assert!(taken > 1000, "{taken}");
}

#[test]
fn what_the_schema_takes_and_the_reader_refuses_is_little() {
    let validator = validator();
    let mut wrongly = Vec::new();
    for key in KEYS {
        for value in values() {
            let app = with(key.name, &value);
            if !is_read(&app) && validator.is_valid(&app) {
                wrongly.push(format!("{}: {value}", key.name));
            }
        }
    }
    assert!(wrongly.len() < 40, "{}:\n{}", wrongly.len(), wrongly.join("\n"));
}

#[test]
fn every_form_of_a_file_is_taken() {
    let app = json!({ "script": "app.js", "env_production": { "A": 1 } });
    let validator = validator();
    for file in [
        app.clone(),
        json!([app]),
        json!({ "apps": app }),
        json!({ "apps": [app], "deploy": { "x": 1 }, "x-base": 5, "$schema": "y", "static": [] }),
        json!({ "name": "package", "version": "1.0.0", "pm2": { "apps": 1 } }),
        json!({ "name": "package", "pm2": [app] }),
        json!({ "cmd": "node app.js", "watch": false, "vizion": true }),
    ] {
        assert_eq!(validator.is_valid(&file), is_read(&file), "{file}");
    }
}

#[test]
fn mistakes_are_found() {
    let validator = validator();
    for file in [
        json!(5),
        json!([]),
        json!({}),
        json!({ "apps": [] }),
        json!({ "apps": [{}] }),
        json!({ "apps": [{ "name": "api" }] }),
        json!({ "apps": [{ "script": "a.js" }], "app": [] }),
        json!({ "app": [{ "script": "a.js" }] }),
        with("instance", &json!(2)),
        with("instances", &json!("many")),
        with("instances", &json!(1.5)),
        with("instances", &json!(30_000)),
        with("kill_timeout", &json!(-1)),
        with("kill_timeout", &json!("soon")),
        with("min_uptime", &json!(99)),
        with("max_memory_restart", &json!("300 MEGA")),
        with("max_memory", &json!(300)),
        with("cpu", &json!("fast")),
        with("nofile", &json!(3)),
        with("autorestart", &json!("yes")),
        with("exec_mode", &json!("clustered")),
        with("env", &json!(["A=1"])),
        with("env_production", &json!("A=1")),
        with("health", &json!({ "http": "/x", "intervall": 5 })),
        with("health", &json!("up")),
        with("listen", &json!("http://x")),
        with("cluster_ports", &json!([0])),
        with("depends_on", &json!({ "db": "helthy" })),
        with("watch", &json!(true)),
        with("stop_exit_codes", &json!([256])),
    ] {
        assert!(!is_read(&file), "the reader refuses {file}");
        assert!(!validator.is_valid(&file), "the schema refuses {file}");
    }
}

/// It is JavaScript; what is not JSON5 in it is replaced by what it comes to.
#[test]
fn the_example_of_the_repository_is_taken() {
    let text = include_str!("../../../examples/ecosystem.config.js");
    let object = text.split_once("module.exports =").map(|(_, object)| object.trim().trim_end_matches(';')).unwrap();
    let object = object.replace("__dirname", "'/srv'").replace("process.env.PORT ?? 3000", "3000");
    let value = read_text(Format::Json, &object).unwrap_or_else(|why| panic!("the example is an object alone: {why}"));
    assert!(is_read(&value) && validator().is_valid(&value), "{value}");
}

#[test]
fn keys_carry_what_editors_show() {
    let schema = super::ecosystem();
    let key = &schema["$defs"]["app"]["properties"]["killTimeout"];
    assert_eq!(key["default"], json!("1600ms"));
    assert_eq!(key["examples"], json!(["5s"]));
    assert!(key["description"].as_str().unwrap().contains("milliseconds"), "{key}");
    assert_eq!(schema["$defs"]["app"]["properties"]["vizion"]["deprecated"], json!(true));
    assert_eq!(schema["$defs"]["app"]["properties"]["cron"]["deprecated"], json!(true));
}
