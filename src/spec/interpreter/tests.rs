//! Tables of interpreters, modes and names.

use std::path::{Path, PathBuf};

use super::*;

#[test]
fn extensions_choose_the_interpreter() {
    for (name, runner) in [
        ("/a/app.js", Some(Runner::OneOf(&["node"]))),
        ("app.config.mjs", Some(Runner::OneOf(&["node"]))),
        ("x.py", Some(Runner::OneOf(&["python", "python3"]))),
        ("x.sh", Some(Runner::OneOf(&["bash", "sh"]))),
        ("x.ts", Some(Runner::TypeScript)),
        ("x.tsx", Some(Runner::TypeScriptJsx)),
        ("x.lua", None),
        ("js", None),
        (".js", None),
        ("x.JS", None),
    ] {
        assert_eq!(by_extension(Path::new(name)), runner, "{name}");
    }
}

#[test]
fn the_first_bytes_show_the_kind_of_a_file() {
    let shebang = |interpreter: &str, args: &[&str]| Head::Shebang {
        interpreter: interpreter.to_owned(),
        args: args.iter().map(ToString::to_string).collect(),
    };
    for (head, expected) in [
        ("#!/bin/bash\necho", shebang("/bin/bash", &[])),
        ("#!/bin/sh -eu -x\n", shebang("/bin/sh", &["-eu -x"])),
        ("#! /usr/bin/perl \r\n", shebang("/usr/bin/perl", &[])),
        ("#!/usr/bin/env node\n", shebang("node", &[])),
        ("#!/usr/bin/env -S deno run --allow-net\n", shebang("deno", &["run", "--allow-net"])),
        ("#!/usr/bin/env -Sdeno run", shebang("deno", &["run"])),
        ("#!/usr/bin/env node --inspect", shebang("node", &["--inspect"])),
        ("#!/usr/bin/env -S A=1 node x", shebang("/usr/bin/env", &["A=1", "node", "x"])),
        ("#!/usr/bin/env -i sh", shebang("/usr/bin/env", &["-i", "sh"])),
        ("#!/usr/bin/env", Head::Text),
        ("#!", Head::Text),
        ("#!\n", Head::Text),
        ("#!/usr/bin/env -S 'open", Head::Text),
        ("console.log(1)", Head::Text),
        ("", Head::Text),
        (" #!/bin/sh", Head::Text),
        ("\u{7f}ELF\u{2}\u{1}\u{1}\0", Head::Binary),
        ("text\0", Head::Binary),
    ] {
        assert_eq!(sniff(head.as_bytes()), expected, "{head:?}");
    }
    assert_eq!(sniff(b"#!/bin/\xff\xfe"), shebang("/bin/\u{fffd}\u{fffd}", &[]));
}

#[test]
fn node_versions_that_run_typescript_are_known() {
    for (printed, args) in [
        ("v20.20.2\n", None),
        ("v22.5.1", None),
        ("v22.6.0", Some(&["--experimental-strip-types"] as &[_])),
        ("v22.17.9", Some(&["--experimental-strip-types"])),
        ("v22.18.0", Some(&[])),
        ("v23.5.0", Some(&["--experimental-strip-types"])),
        ("v23.6.0", Some(&[])),
        ("v24.0.0-rc.1", Some(&[])),
        ("v100.1", Some(&[])),
        ("22.18.0", None),
        ("vx.y", None),
        ("", None),
    ] {
        assert_eq!(node_version(printed).and_then(typescript_args), args, "{printed:?}");
    }
}

fn script(script: &str, interpreter: &str) -> Program {
    Program::Script { script: PathBuf::from(script), interpreter: interpreter.to_owned(), interpreter_args: Vec::new() }
}

#[test]
fn the_mode_follows_from_the_settings() {
    use ExecMode::{Cluster, Fork};
    for (said, instances, mode) in [
        (None, None, Fork),
        (None, Some(Instances::Count(1)), Cluster),
        (None, Some(Instances::Max), Cluster),
        (None, Some(Instances::AllBut(2)), Cluster),
        (Some(Fork), Some(Instances::Count(4)), Fork),
        (Some(Cluster), None, Cluster),
        (Some(Cluster), Some(Instances::Max), Cluster),
    ] {
        assert_eq!(exec_mode(said, instances), mode, "{said:?} {instances:?}");
    }
}

#[test]
fn only_apps_of_node_use_its_cluster_protocol() {
    for (program, is_node) in [
        (script("/a/app.js", "node"), true),
        (script("/a/app.js", "/opt/node-22/bin/node"), true),
        (script("/a/app.ts", "bun"), false),
        (script("/a/x.py", "python3"), false),
        (script("/usr/bin/npm", "node"), false),
        (script("/usr/lib/yarn/bin/yarn", "/usr/bin/node"), false),
        (script("/a/node_modules/.bin/nodemon", "node"), false),
        (script("/a/node_modules/nodemon/bin/nodemon.js", "node"), false),
        (script("/a/turbo.js", "node"), true),
        (Program::Binary { path: "/srv/server".into() }, false),
        (Program::CommandLine { line: "node app.js".into(), shell: "/bin/sh".into() }, false),
    ] {
        assert_eq!(is_node_app(&program), is_node, "{program:?}");
    }
}

#[test]
fn default_names_come_from_files_and_programs() {
    for (path, name) in
        [("app.js", "app"), ("/a/b/my app.test.js", "my app.test"), ("server", "server"), (".env", ".env")]
    {
        assert_eq!(file_stem(path), name);
    }
    for (line, name) in [
        ("python3 -m http.server 8000", "python3"),
        ("python3.11 -m x", "python3.11"),
        ("node /srv/app.js", "node"),
        ("./run.sh --fast", "run"),
        ("PORT=80 NODE_ENV=x /usr/bin/npm start", "npm"),
        ("A=1 ", "A=1"),
        ("echo don't", "echo"),
    ] {
        assert_eq!(command_name(line), name, "{line}");
    }
}

#[test]
fn an_app_run_by_python_is_recognised_by_its_interpreter() {
    for (interpreter, is) in
        [("python", true), ("python3", true), ("/v/bin/python3.12", true), ("node", false), ("/python/node", false)]
    {
        let program =
            Program::Script { script: "/a".into(), interpreter: interpreter.to_owned(), interpreter_args: vec![] };
        assert_eq!(is_python_app(&program), is, "{interpreter}");
    }
}
