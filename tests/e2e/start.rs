//! `start`: interpreters, instances, directories, arguments and variables, and programs that cannot be started.

use std::os::unix::fs::PermissionsExt;

use crate::support::listing::Row;
use crate::support::{Home, app, copy_program, example, processes};

#[test]
fn the_extension_of_a_script_selects_its_interpreter() {
    let home = Home::new();
    home.ok(&format!("start {} {} {}", example("worker.py"), example("ticker.sh"), app("tell.js")));
    for (name, interpreter, log) in [("worker", "python", "ready"), ("ticker", "bash", "tick 1"), ("tell", "node", "")]
    {
        let row = home.one(name);
        assert!(row.text("exec_interpreter").starts_with(interpreter), "{row:?}");
        assert_eq!(row.text("exec_mode"), "fork_mode");
        home.logged(&format!("{name}-out.log"), log);
    }
}

#[test]
fn a_shebang_names_the_interpreter_and_a_binary_needs_none() {
    let home = Home::new();
    let script = home.write("script", "#!/usr/bin/env -S bash -e\necho by $0; exec sleep 1000\n");
    copy_program("/bin/sleep".as_ref(), &home.work().join("binary"));
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
    home.ok("start ./script");
    home.ok("start ./binary -- 1000");
    assert_eq!(home.one("script").text("exec_interpreter"), "bash");
    assert_eq!(home.one("binary").text("exec_interpreter"), "none");
    home.logged("script-out.log", "/work/script");
    home.write("page.txt", "just words\n");
    home.run("start page.txt").refuses("it is not known what runs").complains("--interpreter");
}

#[test]
fn a_program_in_path_or_a_quoted_command_line_can_be_started() {
    let home = Home::new();
    home.ok("start sleep -- 1000");
    assert!(home.one("sleep").text("pm_exec_path").ends_with("/sleep"));
    home.pmr(["start", "echo \"one two\" | tr a-z A-Z; sleep 1000", "--name", "line"]).run().ok();
    home.logged("line-out.log", "ONE TWO");
}

#[test]
fn the_words_after_two_dashes_are_arguments_of_the_app() {
    let home = Home::new();
    home.pmr(["start", &app("tell.sh"), "--", "-i", "4", "two words", "--name", ""]).run().ok();
    home.logged("tell-out.log", "args:5:-i|4|two words|--name|\n");
    assert_eq!(home.one("tell").env("args")[2], "two words");
}

#[test]
fn instances_are_a_number_all_processors_or_all_but_some() {
    let home = Home::new();
    let cpus = std::thread::available_parallelism().unwrap().get();
    for (name, words, count, mode) in [
        ("two", "-i 2", 2, "cluster_mode"),
        ("all", "--instances max", cpus, "cluster_mode"),
        ("zero", "-i 0", cpus, "cluster_mode"),
        ("fewer", "-i -1", (cpus - 1).max(1), "cluster_mode"),
        ("plain", "-i 2 -x", 2, "fork_mode"),
    ] {
        // `all` is a selector and cannot be a name.
        let name = if name == "all" { "every" } else { name };
        home.ok(&format!("start {} --name {name} --listen-timeout 200 {words}", app("tell.js")));
        let rows = home.of(name);
        assert_eq!((rows.len(), rows[0].text("exec_mode")), (count, mode), "{words}");
        let mut numbers: Vec<_> = rows.iter().map(|row| row.env("NODE_APP_INSTANCE").as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count as u64).collect::<Vec<_>>());
    }
    home.logged("two-out-0.log", "instance:");
    home.run(&format!("start {} -i many", app("tell.js"))).refuses("whole number");
    home.run(&format!("start {} --name all", app("tell.js"))).refuses("not `all`");
}

#[test]
fn the_options_set_directory_variables_and_interpreter_arguments() {
    let home = Home::new();
    std::fs::create_dir(home.work().join("there")).unwrap();
    home.write("some.env", "COLOUR=blue\n# a comment\nexport SHAPE=\"round ball\"\n");
    home.ok(&format!("start {} --cwd there --env-file some.env --namespace shop -n paint", app("tell.sh")));
    let log = home.logged("paint-out.log", "colour:");
    assert!(log.contains("/work/there\n") && log.contains("colour:blue shape:round ball size:unset"), "{log}");
    assert_eq!(home.one("paint").text("namespace"), "shop");
    home.ok(&format!("start {} -n a --node-args --stack-size=900", app("tell.js")));
    home.pmr(["start", &app("tell.js"), "-n", "b", "--interpreter-args", "--stack-size=901 --no-warnings"]).run().ok();
    home.logged("a-out.log", "execArgv:--stack-size=900\n");
    home.logged("b-out.log", "execArgv:--stack-size=901\n");
    home.ok(&format!("start {} -n c --interpreter /bin/sh", app("tell.sh")));
    assert_eq!(home.one("c").text("exec_interpreter"), "/bin/sh");
}

#[test]
fn an_app_inherits_variables_but_not_those_of_a_calling_worker() {
    let home = Home::new();
    let caller = home.pmr(["start", &app("tell.js")]).env("COLOUR", "green").env("NODE_CHANNEL_FD", "77");
    caller.env("pm_id", "99").env("NODE_APP_INSTANCE", "5").run().ok();
    let log = home.logged("tell-out.log", "colour:");
    assert!(log.contains("colour:green") && log.contains("id:0 instance:0"), "{log}");
}

#[test]
fn a_start_with_wait_ready_ends_when_the_app_is_ready() {
    let home = Home::new();
    let ready = home.pmr(["start", &example("ready.js"), "--wait-ready", "--listen-timeout", "100s"]);
    ready.env("WARM_UP", "700").run().ok();
    assert!(home.one("ready").online(), "it was ready when the command ended");
    home.logged("ready-out.log", "warm after 700 ms");
    let late = home.pmr(["start", &example("ready.js"), "--wait-ready", "-n", "late", "--listen-timeout", "300"]);
    late.env("WARM_UP", "3600000").run().code(1).says("launching").complains("start: not ready after");
    assert!(processes::lives(home.one("late").pid), "late is not dead");
}

#[test]
fn a_program_that_cannot_be_found_starts_no_daemon() {
    let home = Home::new();
    home.write("server.js", "");
    home.write("plain.sh", "exit");
    home.write("app.rb", "");
    std::fs::create_dir(home.work().join("folder")).unwrap();
    for (line, error) in [
        ("start nosuch.js", "`nosuch.js` is neither a file in"),
        ("start ./no/such.js", "there is no script"),
        ("start servr.js", "did you mean server.js?"),
        ("start folder", "is not a file"),
        ("start plain.sh --interpreter nosuch", "the interpreter `nosuch` is not in PATH"),
        ("start plain.sh --interpreter /no/such", "does not exist"),
        ("start plain.sh --interpreter none", "is not executable"),
        ("start plain.sh --cwd nowhere", "nowhere"),
        ("start plain.sh --env-file nofile", "nofile"),
        ("start plain.sh --max-memory-restart lots", "lots"),
        ("start plain.sh --kill-timeout soon", "soon"),
        ("start plain.sh --stop-exit-codes 300", "300"),
        ("start plain.sh --nope", "--nope"),
        ("start plain.sh nosuch.js", "nosuch.js"),
        ("start", "there is no ecosystem.config.js"),
        ("start plain.sh --only a", "--env and --only choose from a config file"),
    ] {
        home.run(line).refuses(error);
    }
    home.pmr(["start", "app.rb"]).env("PATH", "/nowhere").run().refuses("needs ruby, which is not in PATH");
    assert!(!home.root().join("rpc.sock").exists(), "no daemon was started");
}

#[test]
fn a_running_app_is_not_started_twice_unless_it_gets_another_name() {
    let home = Home::new();
    let script = app("tell.sh");
    home.ok(&format!("start {script}"));
    let before = home.one("tell");
    home.run(&format!("start {script}")).refuses("the app `tell` is running already").complains("pmr restart tell");
    home.ok(&format!("start {script} --name other"));
    assert_eq!((home.one("tell").pid, home.list().len()), (before.pid, 2));
    home.ok("stop tell");
    home.ok(&format!("start {script}"));
    let after = home.one("tell");
    assert!(after.online() && after.id == before.id && after.pid != before.pid);
}

#[test]
fn known_apps_can_be_started_again_by_any_selector() {
    let home = Home::new();
    home.ok(&format!("start {} --namespace shop -n first", app("tell.sh")));
    home.ok(&format!("start {} --namespace shop -n second", app("tell.sh")));
    for words in ["0 1", "first second", "shop", "/^(first|second)$/", "all"] {
        home.ok("stop all");
        assert!(home.list().iter().all(|row| row.status == "stopped" && row.pid == 0));
        home.ok(&format!("start {words}"));
        assert!(home.list().iter().all(Row::online), "{words}");
    }
    let before = home.one("first");
    home.ok("start first");
    let after = home.one("first");
    assert!(after.pid != before.pid && after.restarts == before.restarts + 1, "a running one is restarted");
    home.run("start 17").refuses("no process or namespace matches `17`");
}

#[test]
fn an_app_can_be_added_without_being_started() {
    let home = Home::new();
    home.ok(&format!("start {} --no-autostart", app("tell.sh")));
    assert_eq!(home.one("tell").status, "stopped");
    assert_eq!(home.log("tell-out.log"), "");
    home.ok("start tell");
    home.logged("tell-out.log", "args:0:");
}
