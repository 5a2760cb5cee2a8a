//! Config files on disk. JavaScript is evaluated by the real node.

use std::fs;

use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// The message and hint of loading a file, without the directory.
    fn error(&self, name: &str, text: &str) -> (String, String) {
        let path = self.file(name, text);
        let error = load(&path, &Options::default()).unwrap_err();
        let dir = format!("{}/", self.0.path().display());
        (error.message.replace(&dir, ""), error.hint.unwrap_or_default())
    }
}

fn env_options(name: &str) -> Options {
    Options { only: Vec::new(), env_name: Some(name.to_owned()) }
}

#[test]
fn config_files_are_recognised_by_their_names() {
    for (arg, is) in [
        ("-", true),
        ("a.json", true),
        ("x/package.json", true),
        ("a.json5", true),
        ("a.yml", true),
        ("a.yaml", true),
        ("a.toml", true),
        ("ecosystem.config.js", true),
        ("e.config.cjs", true),
        ("e.config.mjs", true),
        ("app.js", false),
        ("config.js", false),
        ("a.jsonlogs", false),
        ("api", false),
        ("e.config.ts", false),
        ("", false),
    ] {
        assert_eq!(is_config_file(arg), is, "{arg}");
    }
}

#[test]
fn the_default_config_file_is_found() {
    let dir = Dir::new();
    assert_eq!(find_default(dir.0.path()), None);
    dir.file("ecosystem.js", "");
    assert_eq!(find_default(dir.0.path()), None);
    let toml = dir.file("ecosystem.toml", "");
    assert_eq!(find_default(dir.0.path()), Some(toml.into()));
    let js = dir.file("ecosystem.config.js", "");
    assert_eq!(find_default(dir.0.path()), Some(js.into()));
}

#[test]
fn javascript_is_evaluated_in_all_its_forms() {
    let dir = Dir::new();
    dir.file("part.cjs", "module.exports = { PORT: 80 }");
    let app = "{ apps: [{ name: 'api', script: './a.js', env: { PORT: 3000 }, env_production: { PORT: 80 } }] }";
    let json = dir.file("e.json", r#"{"apps": [{"name": "api", "script": "./a.js", "env": {"PORT": 80}}]}"#);
    let expected = load(&json, &Options::default()).unwrap();
    for (name, text) in [
        ("a.config.js", format!("module.exports = {app}")),
        ("b.config.cjs", format!("console.log('noise'); setInterval(() => {{}}, 1000); module.exports = {app}")),
        ("c.config.mjs", format!("export default {app}")),
        ("d.config.js", format!("export default {app}")),
        ("e.config.js", format!("import p from './part.cjs'\nexport default {app}")),
        ("f.config.mjs", format!("export const apps = ({app}).apps")),
        ("g.config.js", format!("module.exports = () => ({app})")),
        ("h.config.js", format!("module.exports = async () => {{ await null; return {app} }}")),
        ("i.config.mjs", format!("const x = await Promise.resolve({app}); export default x")),
        ("j.config.js", format!("module.exports = Promise.resolve({app})")),
        ("k.config.js", format!("exports.apps = ({app}).apps")),
        ("l.config.js", format!("exports.__esModule = true; exports.default = {app}")),
        (
            "m.config.js",
            "module.exports = env => ({apps: [{name: 'api', script: './a.js', env: \
            env === 'production' ? require('./part.cjs') : {}, env_production: {}}]})"
                .to_owned(),
        ),
    ] {
        let drafts = load(&dir.file(name, &text), &env_options("production"));
        assert_eq!(drafts.as_ref(), Ok(&expected), "{name}: {text}");
    }
}

#[test]
fn large_exports_and_large_output_do_not_block_the_evaluation() {
    let dir = Dir::new();
    let text = "process.stderr.write('x'.repeat(300000)); console.log('y'.repeat(300000));
        module.exports = { script: 'a.js', env: { BIG: 'z'.repeat(500000) } }";
    let drafts = load(&dir.file("big.config.js", text), &Options::default()).unwrap();
    assert_eq!(drafts[0].env["BIG"].len(), 500_000);
}

#[test]
fn errors_of_javascript_are_shown() {
    let dir = Dir::new();
    let (message, _) = dir.error("e.config.js", "const x = 1\nmodule.exports = { apps: [ }");
    assert!(message.starts_with("e.config.js cannot be evaluated:\n  "), "{message}");
    assert!(message.contains("e.config.js:2") && message.contains("SyntaxError: Unexpected token '}'"), "{message}");
    assert!(!message.contains("node:internal") && !message.contains("Node.js v"), "{message}");
    let (message, _) = dir.error("e.config.js", "console.error('look here'); throw new Error('no database')");
    assert!(message.contains("look here") && message.contains("Error: no database"), "{message}");
    let (message, _) = dir.error("e.config.js", "require('./nope')");
    assert!(message.contains("Cannot find module './nope'") && !message.contains("node:internal"), "{message}");
    let nothing = "write `module.exports = { apps: [ … ] }` or `export default { apps: [ … ] }`";
    for text in ["module.exports = undefined", "module.exports = () => {}", "module.exports = new Promise(() => {})"] {
        assert_eq!(
            dir.error("n.config.js", text),
            ("n.config.js exports nothing".to_owned(), nothing.to_owned()),
            "{text}"
        );
    }
    assert_eq!(dir.error("x.config.js", "").0, "x.config.js: `script` is missing");
}

#[test]
fn json_is_data_and_never_executed() {
    let dir = Dir::new();
    let (message, _) = dir.error("e.json", "{apps: [{script: require('fs').readFileSync('/etc/passwd')}]}");
    assert!(message.starts_with("e.json is not valid JSON: "), "{message}");
}

#[test]
fn errors_name_the_file() {
    let dir = Dir::new();
    for (name, text, message) in [
        (
            "one.yaml",
            "apps: [{script: a.js, instances: x}]",
            "one.yaml: apps[0].instances: expected a whole number of at most 10000, or \"max\", found \"x\"",
        ),
        (
            "two.toml",
            "[[apps]]\nscrpt = 1\nname = ''",
            "two.toml has 2 mistakes:\n  apps[0].name: expected a name: one line of text, not `all`, found an empty string\n  apps[0].scrpt: unknown key, did you mean `script`?",
        ),
        ("package.json", "{\"name\": \"x\"}", "package.json has no `pm2` section"),
        ("empty.json", "  ", "empty.json is not valid JSON: it is empty"),
    ] {
        assert_eq!(dir.error(name, text).0, message);
    }
    let gone = load("gone.config.js", &Options::default()).unwrap_err();
    assert_eq!(gone.message, "there is no file gone.config.js");
    assert!(gone.hint.unwrap().starts_with("looked for it in /"));
}
