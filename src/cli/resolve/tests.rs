//! Drafts are completed in a scratch directory with scripts and a PATH of fake interpreters.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::spec::Env;
use crate::spec::keys::{Lookup, look_up};
use crate::spec::{LogTarget, Program};

struct Machine {
    root: tempfile::TempDir,
    context: Caller,
}

impl Machine {
    /// A home with `bin` in its PATH, with empty programs of these names, and an empty `srv`, the current directory.
    fn with(programs: &[&str]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        for dir in ["bin", "srv"] {
            fs::create_dir(real.join(dir)).unwrap();
        }
        let env = [("PATH", real.join("bin")), ("HOME", real.clone())];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_string_lossy().into_owned())).into();
        let machine = Machine { root, context: Caller { cwd: real.join("srv"), env, cpus: 4 } };
        for program in programs {
            machine.program(&format!("bin/{program}"), "\0");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.file(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn resolve(&self, settings: &Value) -> Result<AppSpec, InputError> {
        resolve(draft(settings), &self.context)
    }

    /// The error's message and hint, with the machine's root as `ROOT`.
    fn error(&self, settings: &Value) -> (String, String) {
        let error = self.resolve(settings).unwrap_err();
        let root = self.path("").to_string_lossy().trim_end_matches('/').to_owned();
        (error.message.replace(&root, "ROOT"), error.hint.unwrap_or_default().replace(&root, "ROOT"))
    }
}

fn draft(settings: &Value) -> Draft {
    let mut draft = Draft::default();
    for (name, value) in settings.as_object().unwrap() {
        match look_up(name) {
            Lookup::Known(key) => key.set(&mut draft, value).unwrap(),
            other => panic!("{name} is {other:?}"),
        }
    }
    draft
}

fn script(script: PathBuf, interpreter: &str, args: &[&str]) -> Program {
    let interpreter_args = args.iter().map(ToString::to_string).collect();
    Program::Script { script, interpreter: interpreter.to_owned(), interpreter_args }
}

#[test]
fn scripts_find_their_interpreter() {
    let machine = Machine::with(&["node", "python3", "bash", "deno", "perl", "flask"]);
    for (name, text) in [
        ("srv/app.js", ""),
        ("srv/x.py", ""),
        ("srv/x.sh", ""),
        ("srv/tool", "#!/usr/bin/env -S deno run\n"),
        ("srv/plain", "text"),
        ("srv/x.lua", "#!/usr/bin/env perl -w"),
        ("srv/my app.js", ""),
    ] {
        machine.file(name, text);
    }
    machine.program("srv/server", "\x7fELF\0");
    machine.program("bin/npm", "#!/usr/bin/env node");
    let at = |name| machine.path(name);
    for (settings, program, name) in [
        (json!({"script": "app.js"}), script(at("srv/app.js"), "node", &[]), "app"),
        (json!({"script": "./app.js"}), script(at("srv/app.js"), "node", &[]), "app"),
        (json!({"script": "../srv/app.js"}), script(at("srv/app.js"), "node", &[]), "app"),
        (json!({"script": "~/srv/app.js"}), script(at("srv/app.js"), "node", &[]), "app"),
        (json!({"script": "my app.js"}), script(at("srv/my app.js"), "node", &[]), "my app"),
        (
            json!({"script": "app.js", "node_args": "--inspect"}),
            script(at("srv/app.js"), "node", &["--inspect"]),
            "app",
        ),
        (json!({"script": "x.py"}), script(at("srv/x.py"), "python3", &[]), "x"),
        (json!({"script": "x.sh"}), script(at("srv/x.sh"), "bash", &[]), "x"),
        (json!({"script": "tool", "interpreter_args": ["-A"]}), script(at("srv/tool"), "deno", &["run", "-A"]), "tool"),
        (json!({"script": "x.lua"}), script(at("srv/x.lua"), "perl", &["-w"]), "x"),
        (json!({"script": "plain"}), script(at("srv/plain"), "node", &[]), "plain"),
        (json!({"script": "plain", "interpreter": "perl"}), script(at("srv/plain"), "perl", &[]), "plain"),
        (
            json!({"script": "app.js", "interpreter": "~/bin/deno"}),
            script(at("srv/app.js"), &at("bin/deno").to_string_lossy(), &[]),
            "app",
        ),
        (json!({"script": "server"}), Program::Binary { path: at("srv/server") }, "server"),
        (json!({"script": "server", "interpreter": "none"}), Program::Binary { path: at("srv/server") }, "server"),
        (json!({"script": "flask"}), Program::Binary { path: at("bin/flask") }, "flask"),
        (json!({"script": "npm"}), script(at("bin/npm"), "node", &[]), "npm"),
        (
            json!({"script": "flask run --port 5000"}),
            Program::CommandLine { line: "flask run --port 5000".into(), shell: at("bin/bash") },
            "flask",
        ),
        (
            json!({"script": "flask run", "args": ["a b", "it's"]}),
            Program::CommandLine { line: r"flask run 'a b' 'it'\''s'".into(), shell: at("bin/bash") },
            "flask",
        ),
        (json!({"script": "app.js", "cwd": "/"}), script(at("srv/app.js"), "node", &[]), "app"),
    ] {
        let spec = machine.resolve(&settings).unwrap_or_else(|error| panic!("{settings}: {error}"));
        assert_eq!((spec.program, spec.name.as_str()), (program, name), "{settings}");
    }
}

#[test]
fn errors_name_what_is_missing() {
    let machine = Machine::with(&["node", "bash"]);
    for (name, text) in [
        ("srv/app.js", ""),
        ("srv/x.py", ""),
        ("srv/x.ts", ""),
        ("srv/x.lua", ""),
        ("srv/t", "#!/usr/bin/env deno"),
        ("srv/dir/i", ""),
    ] {
        machine.file(name, text);
    }
    machine.file("srv/elf", "\x7fELF\0");
    machine.program("bin/node", "#!/bin/sh\necho v20.1.0\n");
    machine.file("srv/bad.env", "A=1\nSECRET value\n");
    for (settings, message, hint) in [
        (
            json!({"script": "ap.js"}),
            "`ap.js` is neither a file in ROOT/srv nor a program in PATH",
            "did you mean app.js?",
        ),
        (
            json!({"script": "zzz"}),
            "`zzz` is neither a file in ROOT/srv nor a program in PATH",
            "give the path of a script, or a command line in quotes",
        ),
        (json!({"script": "./zzz.js"}), "there is no script ROOT/srv/zzz.js", ""),
        (json!({"script": "dir"}), "ROOT/srv/dir is not a file", "give the script in it, for instance index.js"),
        (json!({"script": "elf"}), "ROOT/srv/elf is not executable", "chmod +x ROOT/srv/elf"),
        (
            json!({"script": "x.py"}),
            "ROOT/srv/x.py needs python or python3, which is not in PATH",
            "install python or python3, or name another interpreter by --interpreter",
        ),
        (
            json!({"script": "x.ts"}),
            "Node v20.1.0 does not run ROOT/srv/x.ts",
            "install bun or Node 22.18 and later, or name what runs it: --interpreter tsx",
        ),
        (
            json!({"script": "x.lua"}),
            "it is not known what runs ROOT/srv/x.lua",
            "say it by --interpreter, or in a first line such as `#!/usr/bin/env lua`",
        ),
        (
            json!({"script": "t"}),
            "the interpreter `deno` is not in PATH",
            "install it, or give its path by --interpreter",
        ),
        (
            json!({"script": "app.js", "interpreter": "node@16"}),
            "the interpreter `node@16` is not in PATH",
            "give the path of the node to use: --interpreter ~/.nvm/versions/node/…/bin/node",
        ),
        (json!({"script": "app.js", "interpreter": "/opt/none"}), "the interpreter /opt/none does not exist", ""),
        (
            json!({"script": "app.js", "cwd": "nowhere"}),
            "the working directory ROOT/srv/nowhere: it does not exist",
            "`cwd` (--cwd) must exist before the app is started",
        ),
        (json!({"script": "app.js", "cwd": "app.js"}), "the working directory ROOT/srv/app.js is not a directory", ""),
        (json!({"script": "app.js", "env_file": ".env"}), "the env file ROOT/srv/.env: it does not exist", ""),
        (
            json!({"script": "app.js", "env_file": "bad.env"}),
            "the env file ROOT/srv/bad.env: the line of `SECRET value` is not `NAME=value`; a value with spaces or # needs quotes",
            "",
        ),
        (
            json!({"script": "echo hi", "node_args": "-x"}),
            "arguments for an interpreter are given, but the app runs without one",
            "arguments of the app itself stand after `--`, or in `args`",
        ),
    ] {
        assert_eq!(machine.error(&settings), (message.to_owned(), hint.to_owned()), "{settings}");
    }
    machine.file("srv/all.js", "");
    assert_eq!(machine.error(&json!({"script": "all.js"})).0, "an app cannot be called \"all\"");
}

#[test]
fn typescript_runs_by_bun_or_by_a_node_that_supports_it() {
    let machine = Machine::with(&[]);
    machine.file("srv/x.ts", "");
    machine.program("bin/node", "#!/bin/sh\necho v22.7.0\n");
    let program = |machine: &Machine| machine.resolve(&json!({"script": "x.ts"})).unwrap().program;
    assert_eq!(program(&machine), script(machine.path("srv/x.ts"), "node", &["--experimental-strip-types"]));
    machine.program("bin/bun", "\0");
    assert_eq!(program(&machine), script(machine.path("srv/x.ts"), "bun", &[]));
}

#[test]
fn counts_modes_and_logs_follow_pm2() {
    let machine = Machine::with(&["node", "python"]);
    machine.file("srv/app.js", "");
    machine.file("srv/x.py", "");
    for (settings, mode, instances, merge) in [
        (json!({"script": "app.js"}), ExecMode::Fork, 1, true),
        (json!({"script": "app.js", "instances": 1}), ExecMode::Cluster, 1, false),
        (json!({"script": "app.js", "instances": "max"}), ExecMode::Cluster, 4, true),
        (json!({"script": "app.js", "instances": -1}), ExecMode::Cluster, 3, false),
        (json!({"script": "app.js", "instances": 2, "merge_logs": true}), ExecMode::Cluster, 2, true),
        (json!({"script": "app.js", "exec_mode": "cluster"}), ExecMode::Cluster, 1, false),
        (json!({"script": "app.js", "instances": 2, "exec_mode": "fork"}), ExecMode::Fork, 2, false),
        (json!({"script": "x.py", "instances": 2}), ExecMode::Cluster, 2, false),
        (json!({"script": "x.py", "instances": 2, "exec_mode": "fork"}), ExecMode::Fork, 2, false),
    ] {
        let spec = machine.resolve(&settings).unwrap();
        assert_eq!((spec.mode, spec.instances, spec.logs.merge), (mode, instances, merge), "{settings}");
    }
}

#[test]
fn paths_keep_symbolic_links() {
    let machine = Machine::with(&["node"]);
    machine.file("v1/app.js", "");
    machine.file("v1/sub/x", "");
    symlink(machine.path("v1"), machine.path("current")).unwrap();
    symlink(machine.path("v1/sub"), machine.path("srv/link")).unwrap();
    let path = |written: &str| machine.resolve(&json!({"script": written})).map(|spec| spec.program);
    assert_eq!(path("../current/app.js"), Ok(script(machine.path("current/app.js"), "node", &[])));
    // `link/..` is v1, not srv.
    assert_eq!(path("link/../app.js"), Ok(script(machine.path("srv/link/../app.js"), "node", &[])));
    let cwd = machine.path("v1");
    let link = machine.path("current").to_string_lossy().into_owned();
    assert_eq!(path::logical(cwd.clone(), Some(&link)), machine.path("current"));
    assert_eq!(path::logical(cwd.clone(), Some(&"/".to_owned())), cwd);
    assert_eq!(path::logical(cwd.clone(), None), cwd);
}

#[test]
fn variables_and_other_settings_are_resolved() {
    let machine = Machine::with(&["python3"]);
    machine.file("srv/app/x.py", "");
    machine.file("srv/package.json", r#"{"version": "1.2.3"}"#);
    machine.file("srv/app/a.env", "# comment\nexport A=file\nB=\"two\nlines\"\nC='$A'\nD=${A}!\n");
    machine.file("srv/app/b.env", "B=b\n");
    let spec = machine
        .resolve(&json!({"script": "x.py", "cwd": "app", "env": {"A": "env"}, "env_file": ["a.env", "b.env"],
            "out_file": "logs/o.log", "error_file": "~/e.log", "kill_timeout": "3s", "autostart": false}))
        .unwrap();
    let env: Vec<(&str, &str)> = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "env"), ("B", "b"), ("C", "$A"), ("D", "file!")]);
    assert_eq!(spec.base_env["PYTHONUNBUFFERED"], "1");
    assert_eq!(spec.cwd, machine.path("srv/app"));
    assert_eq!(spec.logs.out, LogTarget::File(machine.path("srv/app/logs/o.log")));
    assert_eq!(spec.logs.err, LogTarget::File(machine.path("e.log")));
    assert_eq!(spec.version.as_deref(), Some("1.2.3"));
    assert_eq!(spec.stop.kill_timeout, Duration::from_secs(3));
    assert!(!spec.autostart);
}

#[test]
fn apps_do_not_inherit_the_identity_of_a_managed_caller() {
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Env>();
    let free = env(&[("name", "mine"), ("status", "x"), ("PATH", "/bin")]);
    assert_eq!(base_env(free.clone()), free);
    let managed = env(&[
        ("pm_id", "3"),
        ("name", "api"),
        ("status", "online"),
        ("instance_var", "SLOT"),
        ("SLOT", "2"),
        ("PATH", "/bin"),
        ("NODE_CHANNEL_FD", "3"),
        ("NODE_ENV", "production"),
    ]);
    assert_eq!(base_env(managed), env(&[("PATH", "/bin"), ("NODE_ENV", "production")]));
    assert_eq!(base_env(env(&[("NOTIFY_SOCKET", "/run/x"), ("A", "1")])), env(&[("A", "1")]));
}

#[test]
fn app_names_are_found_without_their_scripts() {
    let machine = Machine::with(&["node"]);
    machine.file("srv/my app.js", "");
    let name = |settings| app_name(&draft(&settings), &machine.context);
    assert_eq!(name(json!({"script": "x.js", "name": "api"})).as_deref(), Some("api"));
    assert_eq!(name(json!({"script": "my app.js"})).as_deref(), Some("my app"));
    assert_eq!(name(json!({"script": "gone.js"})).as_deref(), Some("gone"));
    assert_eq!(name(json!({"script": "a.js", "cwd": "gone"})).as_deref(), Some("a"));
}

#[test]
fn an_error_in_one_of_several_apps_names_the_app() {
    let machine = Machine::with(&["node"]);
    machine.file("srv/a.js", "");
    let drafts = |second| vec![draft(&json!({"script": "a.js"})), draft(&json!({"script": second, "name": "web"}))];
    let names = |specs: Vec<AppSpec>| specs.into_iter().map(|spec| spec.name).collect::<Vec<_>>();
    assert_eq!(resolve_all(drafts("./a.js"), &machine.context).map(names), Ok(vec!["a".to_owned(), "web".to_owned()]));
    let error = resolve_all(drafts("/gone.js"), &machine.context).unwrap_err();
    assert_eq!(error.message, "web: there is no script /gone.js");
}

/// The guide, the schema and `--help` show the defaults of an app without settings.
#[test]
fn the_defaults_of_the_table_are_those_of_an_app_without_settings() {
    let machine = Machine::with(&["node"]);
    machine.file("srv/app.js", "");
    let resolved = machine.resolve(&json!({ "script": "app.js" })).unwrap();
    for key in crate::spec::keys::table::KEYS {
        let Some(default) = key.about.fallback.json() else { continue };
        let default: Value = serde_json::from_str(default).unwrap();
        let mut app = json!({ "script": "app.js" });
        app[key.name] = default;
        assert_eq!(machine.resolve(&app).unwrap(), resolved, "{app}");
    }
    let clustered = machine.resolve(&json!({ "script": "app.js", "instances": 1 })).unwrap();
    assert_eq!((resolved.instances, resolved.mode, clustered.mode), (1, ExecMode::Fork, ExecMode::Cluster));
    assert_eq!((resolved.logs.merge, clustered.logs.merge), (true, false));
}
