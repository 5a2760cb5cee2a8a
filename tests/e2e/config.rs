//! Config files: all formats, `--only`, `--env`, selectors made of them, and mistakes, which start nothing.

use crate::support::eventually::until;
use crate::support::{Home, app, example, http};

#[test]
fn every_config_format_means_the_same() {
    let home = Home::new();
    let script = app("tell.js");
    let object = format!(
        r#"{{ "apps": [{{ "name": "NAME", "script": "{script}", "args": ["a", "b c"], "maxRestarts": 4, "kill_timeout": "2s",
            "env": {{ "COLOUR": "red", "SIZE": 7 }}, "autorestart": false }}] }}"#
    );
    let yaml = format!(
        "apps:\n  - name: NAME\n    script: {script}\n    args: [a, b c]\n    maxRestarts: 4\n    kill_timeout: 2s\n    \
         autorestart: false\n    env: {{ COLOUR: red, SIZE: 7 }}\n"
    );
    let toml = format!(
        "[[apps]]\nname = \"NAME\"\nscript = \"{script}\"\nargs = [\"a\", \"b c\"]\nmaxRestarts = 4\n\
         kill_timeout = \"2s\"\nautorestart = false\nenv = {{ COLOUR = \"red\", SIZE = 7 }}\n"
    );
    for (extension, text) in [
        ("js", format!("module.exports = {object}")),
        ("cjs", format!("module.exports = {object}")),
        ("mjs", format!("export default {object}")),
        ("json", format!("// with a comment\n{object}")),
        ("yaml", yaml.clone()),
        ("yml", yaml),
        ("toml", toml),
    ] {
        let name = format!("by-{extension}");
        home.write(&format!("{extension}.config.{extension}"), &text.replace("NAME", &name));
        home.ok(&format!("start {extension}.config.{extension}"));
        let log = home.logged(&format!("{name}-out.log"), "colour:");
        assert!(log.contains("args:a|b c") && log.contains("colour:red size:7"), "{extension}: {log}");
        let row = home.one(&name);
        assert_eq!((row.env("max_restarts").as_u64(), row.env("kill_timeout").as_u64()), (Some(4), Some(2000)));
    }
}

#[test]
fn the_example_config_is_found_by_default_and_starts_three_apps() {
    let home = Home::new();
    let port = http::free_port();
    let folder = example("ecosystem.config.js");
    let folder = std::path::Path::new(&folder).parent().unwrap();
    home.pmr(["start"]).within(folder).env("PORT", port.to_string()).run().ok();
    let names: Vec<_> = home.list().into_iter().map(|row| row.name).collect();
    assert_eq!(names.iter().filter(|name| *name == "web").count(), 2, "{names:?}");
    assert_eq!(names.len(), 4);
    // On a busy machine the workers may be online before they listen.
    until("they serve", || http::get(port, "/here").is_ok_and(|page| page.contains("\"path\":\"/here\"")));
    // The worker is online as soon as it runs. A signal before it prints this line would end it without another line.
    home.logged("worker-out.log", "worker ready");
    home.pmr(["stop", "ecosystem.config.js"]).within(folder).run().ok();
    assert!(home.list().iter().all(|row| row.status == "stopped"));
    home.logged("worker-out.log", "worker leaves after");
    home.pmr(["delete", "ecosystem.config.js"]).within(folder).run().ok();
    assert!(home.list().is_empty());
}

#[test]
fn only_and_env_select_apps_and_variables() {
    let home = Home::new();
    let script = app("tell.js");
    let text = format!(
        "const one = name => ({{ name, script: '{script}', env: {{ COLOUR: 'red', SIZE: 1 }}, \
         env_production: {{ COLOUR: 'black', NODE_ENV: 'production' }} }})\n\
         module.exports = {{ apps: ['a', 'b', 'c'].map(one) }}"
    );
    home.write("shop.config.js", &text);
    home.ok("start shop.config.js --only a,b --env production");
    home.logged("a-out.log", "colour:black size:1 node_env:production");
    let names: Vec<_> = home.list().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["a", "b"]);
    home.ok("restart shop.config.js --only a");
    home.logged("a-out.log", "colour:red size:1 node_env:unset");
    home.run("start shop.config.js --only d").refuses("`d`");
    home.run("restart a --env production").refuses("--env and --only choose from a config file");
}

#[test]
fn a_config_file_with_a_mistake_starts_nothing() {
    let home = Home::new();
    let script = app("tell.sh");
    let good = format!("{{ name: 'good', script: '{script}' }}");
    for (name, text, error) in [
        (
            "key.config.js",
            format!("module.exports = [{good}, {{ script: '{script}', instancs: 2 }}]"),
            "did you mean `instances`?",
        ),
        (
            "type.config.js",
            format!("module.exports = [{good}, {{ script: '{script}', instances: 'x' }}]"),
            "[1].instances: expected a whole number",
        ),
        ("noscript.config.js", format!("module.exports = [{good}, {{ name: 'x' }}]"), "script"),
        (
            "missing.config.js",
            format!("module.exports = [{good}, {{ name: 'x', script: './nosuch.js' }}]"),
            "nosuch.js",
        ),
        ("twice.config.js", format!("module.exports = [{good}, {good}]"), "good"),
        ("throws.config.js", "throw new Error('cannot read the moon')".to_owned(), "cannot read the moon"),
        ("syntax.config.js", "module.exports = {".to_owned(), "syntax.config.js"),
        ("function.config.js", "module.exports = 5".to_owned(), "function.config.js"),
        ("a.json", "{ apps: [".to_owned(), "a.json"),
        ("b.yaml", "apps:\n - name: x\n  script: y".to_owned(), "b.yaml"),
        ("c.toml", "apps = [".to_owned(), "c.toml"),
    ] {
        home.write(name, &text);
        home.run(&format!("start {name}")).refuses(error).complains(name);
    }
    home.run("start nosuch.config.js").refuses("there is no file nosuch.config.js");
    assert!(!home.root().join("rpc.sock").exists(), "no daemon was started");
}

#[test]
fn a_config_file_with_a_mistake_changes_no_running_app() {
    let home = Home::new();
    let file = |text: &str| home.write("shop.config.js", text);
    file(&format!("module.exports = [{{ name: 'a', script: '{}' }}]", app("tell.sh")));
    home.ok("start shop.config.js");
    let before = home.one("a");
    file(&format!("module.exports = [{{ name: 'a', script: '{}', maxMemroy: 1 }}]", app("tell.sh")));
    for verb in ["start", "restart", "reload"] {
        home.run(&format!("{verb} shop.config.js")).refuses("maxMemroy: unknown key");
    }
    let after = home.one("a");
    assert_eq!((after.pid, after.restarts, after.online()), (before.pid, before.restarts, true));
}

#[test]
fn the_config_file_is_the_desired_state() {
    let home = Home::new();
    let file = |env: &str| {
        let script = app("tell.js");
        home.write("shop.config.js", &format!("module.exports = [{{ name: 'a', script: '{script}', env: {env} }}]"))
    };
    file("{ COLOUR: 'red', SIZE: 3 }");
    home.ok("start shop.config.js");
    home.logged("a-out.log", "colour:red size:3");
    file("{ COLOUR: 'blue' }");
    home.ok("start shop.config.js");
    home.logged("a-out.log", "colour:blue size:unset");
    let row = home.one("a");
    assert_eq!((row.restarts, row.id), (1, 0), "a known app is restarted, not started twice");
}
