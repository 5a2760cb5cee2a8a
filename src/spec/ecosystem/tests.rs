//! The forms of a file, its languages, and the messages about mistakes.

use serde_json::json;

use super::text::{Format, read_text};
use super::*;
use crate::spec::Env;

fn options(only: &[&str], env_name: Option<&str>) -> Options {
    Options { only: only.iter().map(ToString::to_string).collect(), env_name: env_name.map(str::to_owned) }
}

fn names(value: Value, only: &[&str]) -> Result<Vec<String>, String> {
    match parse(value, &options(only, None)) {
        Ok(drafts) => Ok(drafts.iter().filter_map(|draft| draft.names().into_iter().next()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

fn env_of(value: Value, env_name: Option<&str>) -> Env {
    parse(value, &options(&[], env_name)).unwrap().remove(0).env
}

#[test]
fn all_forms_of_a_file_are_parsed() {
    let app = json!({"script": "a.js"});
    for value in [
        json!({"apps": [app]}),
        json!({"apps": app}),
        json!({"pm2": [app], "version": "1.0.0", "scripts": {}}),
        json!({"pm2": app, "name": "pkg"}),
        json!([app]),
        app.clone(),
        json!({"apps": [app], "deploy": {"production": {}}, "x-shared": {"env": {}}, "static": []}),
    ] {
        assert_eq!(names(value.clone(), &[]), Ok(vec!["a".to_owned()]), "{value}");
    }
}

#[test]
fn json_yaml_and_toml_give_the_same_apps() {
    let json5 = r#"
        // an app
        {apps: [{name: 'api', script: "./a.js", instances: 'max', maxMemoryRestart: '300M', args: ['--x', 'y z'],
          env: {PORT: 3000, DEBUG: true, NO: 'no', EMPTY: null},
          env_production: {PORT: 80,},}]}"#;
    let json = r#"{"apps": [{"name": "api", "script": "./a.js", "instances": "max", "max_memory_restart": "300M",
        "args": "--x 'y z'", "env": {"PORT": "3000", "DEBUG": "true", "NO": "no", "EMPTY": "null"},
        "env_production": {"PORT": "80"}}]}"#;
    let yaml = "
apps:
  - name: api
    script: ./a.js
    instances: max
    max_memory_restart: 300M
    args: [--x, y z]
    env:
      PORT: 3000
      DEBUG: true
      NO: no
      EMPTY: null
    env_production:
      PORT: 80
";
    let toml = r#"
[[apps]]
name = "api"
script = "./a.js"
instances = "max"
max_memory_restart = "300M"
args = ["--x", "y z"]
env = { PORT = 3000, DEBUG = true, NO = "no", EMPTY = "null" }
[apps.env_production]
PORT = 80
"#;
    let read = |format: Format, text: &str| {
        parse(read_text(format, text).unwrap(), &options(&[], Some("production"))).unwrap()
    };
    let expected = read(Format::Json, json);
    assert_eq!(expected[0].env["PORT"], "80");
    assert_eq!(read(Format::Json, json5), expected);
    assert_eq!(read(Format::Json, &format!("\u{feff}{json}")), expected);
    assert_eq!(read(Format::Yaml, yaml), expected);
    assert_eq!(read(Format::Toml, toml), expected);
}

#[test]
fn yaml_anchors_and_toml_dates_are_parsed() {
    let yaml = "
x-common: &common
  instances: 2
  env: {A: 007, B: 1.50}
apps:
  - {<<: *common, script: a.js}
  - {<<: *common, script: b.js}
";
    let drafts = parse(read_text(Format::Yaml, yaml).unwrap(), &Options::default()).unwrap();
    assert_eq!((drafts.len(), &drafts[0].env), (2, &drafts[1].env));
    assert_eq!(drafts[0].env["A"], "7");
    let toml = "[[apps]]\nscript = 'a.js'\nenv = { DAY = 2024-05-01, T = 2024-05-01T10:00:00Z, F = 2.0 }";
    let env = env_of(read_text(Format::Toml, toml).unwrap(), None);
    assert_eq!((&*env["DAY"], &*env["T"], &*env["F"]), ("2024-05-01", "2024-05-01T10:00:00Z", "2"));
}

#[test]
fn syntax_errors_name_their_place() {
    for (format, text, place) in [
        (Format::Json, "{\n  apps: [\n    {script: 'a.js' name: 1}\n]}", "expected comma at line 3 column 21"),
        (Format::Json, "", "it is empty"),
        (Format::Json, "{apps: [", "line 1 column 8"),
        (Format::Yaml, "apps:\n  - script: a.js\n   name: b", "line 3"),
        (Format::Yaml, "a: 1\na: 2", "line 2"),
        (Format::Toml, "[[apps]]\nscript = a.js\n", "line 2 column 10"),
    ] {
        let error = read_text(format, text).unwrap_err();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn the_place_of_a_syntax_error_is_shown() {
    let error = read_text(Format::Toml, "[[apps]]\nscript = a.js\n").unwrap_err();
    let shown = "string values must be quoted, expected literal string at line 2 column 10
  2 | script = a.js
               ^";
    assert_eq!(error, shown);
    let error = read_text(Format::Json, &format!("{{é: '{}' x}}", "y".repeat(200))).unwrap_err();
    assert_eq!(error, "expected comma at line 1 column 208");
    for text in ["\u{2028}{", "{\r\n\r{", "é: [", "\t- [", "= é", "[é]\n'"] {
        for format in [Format::Json, Format::Yaml, Format::Toml] {
            let _ = read_text(format, text);
        }
    }
}

#[test]
fn deeply_nested_and_exponential_texts_are_errors() {
    let deep = "[".repeat(100_000);
    let laughs = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g]";
    for text in [deep.as_str(), laughs, "\0", "{{{{", "\u{1b}[31m"] {
        for format in [Format::Json, Format::Yaml, Format::Toml] {
            if let Ok(value) = read_text(format, text) {
                assert!(parse(value, &Options::default()).is_err(), "{text:.20}");
            }
        }
    }
}

#[test]
fn profiles_are_merged_over_env() {
    let file =
        json!({"script": "a.js", "env": {"A": 1, "B": 1}, "env_production": {"B": 2, "C": {"x": 1}}, "env_file": "x"});
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Env>();
    assert_eq!(env_of(file.clone(), None), env(&[("A", "1"), ("B", "1")]));
    assert_eq!(env_of(file, Some("production")), env(&[("A", "1"), ("B", "2"), ("C", r#"{"x":1}"#)]));
    // It is enough that one app has it. The other keeps its `env`.
    let two = json!([{"script": "a.js", "env": {"A": 1}}, {"script": "b.js", "env_dev": {"A": 2}}]);
    assert_eq!(env_of(two, Some("dev")), env(&[("A", "1")]));
}

#[test]
fn only_selects_apps_by_name() {
    let file =
        || json!({"apps": [{"script": "api.js"}, {"name": "my worker", "script": "w.js"}, {"script": "/d d/cron.js"}]});
    for (only, chosen) in [
        (&["api"] as &[&str], &["api"] as &[&str]),
        (&["cron,api"], &["api", "d"]),
        (&["my worker"], &["my worker"]),
        (&["api my worker,cron"], &["api", "my worker", "d"]),
    ] {
        let found = names(file(), only);
        if only[0] == "api my worker,cron" {
            assert!(found.unwrap_err().starts_with("no app is called `my`, there is api, my worker, "));
        } else {
            assert_eq!(found, Ok(chosen.iter().map(ToString::to_string).collect()), "{only:?}");
        }
    }
}

#[test]
fn messages_name_the_path_the_expected_and_the_found_value() {
    let app = |extra: Value| {
        let mut app = json!({"script": "a.js"});
        app.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"apps": [{"script": "ok.js"}, app]})
    };
    for (value, message) in [
        (
            app(json!({"instances": "many"})),
            r#"apps[1].instances: expected a whole number of at most 10000, or "max", found "many""#,
        ),
        (
            app(json!({"max_memory_restrat": "300M"})),
            "apps[1].max_memory_restrat: unknown key, did you mean `max_memory_restart`?",
        ),
        (app(json!({"health_check": {}})), "apps[1].health_check: unknown key, did you mean `health`?"),
        (
            app(json!({"health": {"http": "/", "timout": 5}})),
            "apps[1].health.timout: unknown key, did you mean `timeout`?",
        ),
        (app(json!({"watch": true})), "apps[1].watch: `watch` is a PM2 key that pmr does not support yet"),
        (
            app(json!({"cronRestart": "0 0 * * *"})),
            "apps[1].cronRestart: `cronRestart` is a PM2 key that pmr does not support yet",
        ),
        (
            app(json!({"env": "PORT=80"})),
            r#"apps[1].env: expected an object of environment variables, found "PORT=80""#,
        ),
        (app(json!({"env_dev": 5})), "apps[1].env_dev: expected an object of environment variables, found 5"),
        (app(json!({"exec": "b.js"})), "apps[1].script: it is the same key as `exec`, and they differ: keep one"),
        (app(json!({"name": "ok"})), "apps[1]: the app is called `ok`, as is apps[0]: give each its own `name`"),
        (json!({"apps": [{"name": "x"}]}), "apps[0]: `script` is missing"),
        (json!({"apps": []}), "apps: the list of apps is empty"),
        (json!({"apps": ["a.js"]}), r#"apps[0]: expected an object that describes an app, found "a.js""#),
        (json!({"apps": "a.js"}), r#"apps: expected an object that describes an app, found "a.js""#),
        (json!({"app": [{"script": "a.js"}]}), "app: unknown key, did you mean `apps`?"),
        (json!({"apps": [{"script": "a.js"}], "deplyo": {}}), "deplyo: unknown key, did you mean `deploy`?"),
        (json!({"scirpt": "a.js"}), "scirpt: unknown key, did you mean `script`?"),
        (
            json!([{"script": "a.js", "kill_timeout": "long"}]),
            r#"[0].kill_timeout: expected a time: milliseconds, or a text such as "500ms", "10s" or "5m", found "long""#,
        ),
        (json!("a.js"), r#"expected an object that describes an app, found "a.js""#),
        (json!({}), "`script` is missing"),
    ] {
        assert_eq!(names(value, &[]), Err(message.to_owned()));
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let file = json!({"apps": [{"script": "a.js", "instances": "x", "nmae": "y"}, {"script": 5}], "deplyo": 1});
    let expected = "deplyo: unknown key, did you mean `deploy`?\n\
        apps[0].instances: expected a whole number of at most 10000, or \"max\", found \"x\"\n\
        apps[0].nmae: unknown key, did you mean `name`?\n\
        apps[1].script: expected the path of a script, a program or a command line, found 5";
    assert_eq!(names(file, &[]), Err(expected.to_owned()));
}

#[test]
fn unknown_app_and_env_names_are_errors() {
    let file = || json!([{"script": "api.js", "env_production": {}}, {"script": "web.js"}]);
    assert_eq!(names(file(), &["ap"]), Err("no app is called `ap`, there is api, web".to_owned()));
    let error = parse(file(), &options(&[], Some("prod"))).unwrap_err().to_string();
    assert_eq!(error, "no app has an `env_prod`, only `env_production`");
    let error = parse(json!({"script": "a.js"}), &options(&[], Some("prod"))).unwrap_err().to_string();
    assert_eq!(error, "no app has an `env_prod`, nor any other");
}

#[test]
fn keys_that_are_off_or_ignored_are_accepted() {
    let file = json!({"script": "a.js", "watch": false, "ignore_watch": ["x"], "time": false, "cron": "", "log_file": null,
        "vizion": true, "windowsHide": true, "pmx": false, "exec_mode": null});
    assert_eq!(
        parse(file, &Options::default()).unwrap(),
        parse(json!({"script": "a.js"}), &Options::default()).unwrap()
    );
}
