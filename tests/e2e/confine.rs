//! Limits kept by the kernel, users, and confinement. What a machine does not allow is refused with a message, and the
//! daemon's log names what it allows.

use std::fs;
use std::io::Write;

use crate::support::{Home, eventually, example, http, processes};

/// Starts a shell command as the app `it`, in `/`, and returns the outcome of the command.
fn start(home: &Home, line: &str, flags: &str) -> crate::support::pmr::Ran {
    let words = ["start", line, "-n", "it", "--cwd", "/"].into_iter().chain(flags.split_whitespace());
    home.pmr(words).run()
}

/// Whether the daemon's log says that this machine has a feature, as in `limits on memory: v1`.
fn allowed(home: &Home, what: &str) -> bool {
    home.pmr(["start", "true", "-n", "first", "--no-autostart"]).run().ok();
    home.ok("delete first");
    let log = home.daemon_logged(what);
    let (_, found) = log.split_once(what).expect("it was found");
    let allowed = !found.starts_with(": none");
    if !allowed {
        let _ = writeln!(std::io::stderr(), "{what}: not on this machine");
    }
    allowed
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[test]
fn an_app_above_its_memory_limit_is_killed_with_the_reason() {
    let home = Home::new();
    let hog = "x=0123456789abcdef; while :; do x=$x$x; done";
    let limit = "--max-memory 24M --no-autorestart";
    if !allowed(&home, "limits on memory") {
        start(&home, hog, limit).refuses("no `memory` cgroup controller");
        return;
    }
    start(&home, hog, limit);
    let row = home.status("it", "stopped").remove(0);
    let words = "was killed by the kernel: it used more than its limit of 24 MB of memory";
    assert!(row.text("reason").contains(words), "{:?}", row.json);
    assert_eq!(row.env("exit_signal").as_i64(), Some(9));
    home.ok("describe it").says("for using more than 24 MB of memory").says("24.0mb of memory");
    home.daemon_logged(words);
}

#[test]
fn a_kill_by_a_user_is_not_reported_as_a_memory_kill() {
    let home = Home::new();
    if !allowed(&home, "limits on memory") {
        return;
    }
    start(&home, "exec sleep 300", "--max-memory 24M --no-autorestart").ok();
    processes::signal(home.one("it").pid, nix::sys::signal::Signal::SIGKILL);
    let row = home.status("it", "stopped").remove(0);
    assert!(row.text("reason").contains("was killed by SIGKILL"), "{:?}", row.json);
}

#[test]
fn a_fork_bomb_stops_at_its_limit_and_can_be_deleted() {
    let home = Home::new();
    // The inner shell gives up when the first fork is refused. Its children stay.
    let bomb = "(while :; do sleep 300 & done); exec sleep 300";
    if !allowed(&home, "on processes") {
        start(&home, bomb, "--pids 15").refuses("no `pids` cgroup controller");
        return;
    }
    start(&home, bomb, "--pids 15").ok();
    let daemon = [home.daemon_pid(), home.god_pid()];
    let bombs = || processes::of_home(home.root()).into_iter().filter(|pid| !daemon.contains(pid)).count();
    eventually::until("the bomb is at its limit", || (14..=15).contains(&bombs()));
    home.logged("it-error.log", "fork");
    home.ok("delete it");
    assert_eq!(bombs(), 0);
}

#[test]
fn processor_time_is_limited() {
    let home = Home::new();
    if !allowed(&home, "on processor time") {
        start(&home, "exec sleep 300", "--cpu 50%").refuses("no `cpu` cgroup controller");
        return;
    }
    start(&home, "exec sleep 300", "--cpu 50%").ok();
    assert!(quotas(home.one("it").pid).iter().any(|quota| quota.starts_with("50000")));
    home.ok("describe it").says("50% of one");
    // A restart applies another limit.
    home.ok("restart it --cpu 2");
    assert!(quotas(home.one("it").pid).iter().any(|quota| quota.starts_with("200000")));
}

/// The processor quotas of all cgroups of a process.
fn quotas(pid: i32) -> Vec<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let files = paths
        .flat_map(|path| ["/cpu", "/cpu,cpuacct", "", "/unified"].map(|mount| format!("/sys/fs/cgroup{mount}{path}")));
    files
        .flat_map(|folder| ["cpu.max", "cpu.cfs_quota_us"].map(|file| format!("{folder}/{file}")))
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect()
}

#[test]
fn the_limit_of_open_files_is_set_for_its_app_alone() {
    let home = Home::new();
    let config = r#"{"apps": [
        {"name": "few", "script": "ulimit -n; exec sleep 300", "limits": {"nofile": 64}},
        {"name": "free", "script": "ulimit -n; exec sleep 300"}
    ]}"#;
    let path = home.write("ecosystem.json", config);
    home.ok(&format!("start {}", path.display()));
    home.logged("few-out.log", "64\n");
    let ours = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0;
    home.logged("free-out.log", &format!("{ours}\n"));
}

#[test]
fn an_app_runs_as_the_user_it_is_given() {
    let home = Home::new();
    let line = "id -u; id -g; id -G; echo $HOME $USER; echo again > /dev/stdout; echo end; exec sleep 300";
    if !is_root() {
        start(&home, line, "--uid 0").refuses("setting the supplementary groups");
        return;
    }
    start(&home, line, "--uid nobody --gid daemon").ok();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let group = nix::unistd::Group::from_name("daemon").unwrap().unwrap().gid;
    let name = std::ffi::CString::new("nobody").unwrap();
    let groups = nix::unistd::getgrouplist(&name, group).unwrap();
    let groups = groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let log = home.logged("it-out.log", "end\n");
    let home_of = nobody.dir.display();
    assert_eq!(log, format!("{}\n{group}\n{groups}\n{home_of} nobody\nagain\nend\n", nobody.uid));
    assert_eq!(home.one("it").text("username"), "nobody");
    home.ok("env it").says(&format!("HOME: {home_of}")).says("LOGNAME: nobody");
    start(&home, line, "-n other --uid nosuchuser").refuses("there is no user `nosuchuser`");
}

#[test]
fn node_workers_can_run_as_another_user() {
    let home = Home::new();
    if !is_root() {
        return;
    }
    let port = http::free_port();
    home.serve(port, &format!("{} -i 2 --uid nobody", example("http/server.js")));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid;
    for row in home.status("server", "online") {
        let status = fs::read_to_string(format!("/proc/{}/status", row.pid)).unwrap();
        assert!(status.contains(&format!("Uid:\t{nobody}\t{nobody}\t")), "{status}");
    }
    http::get(port, "/").unwrap();
}

#[test]
fn an_app_can_be_denied_new_privileges() {
    let home = Home::new();
    start(&home, "grep NoNewPrivs /proc/self/status; exec sleep 300", "--no-new-privs").ok();
    home.logged("it-out.log", "NoNewPrivs:\t1\n");
}

#[test]
fn an_app_can_have_a_private_tmp() {
    let home = Home::new();
    let ran = start(&home, "ls -A /tmp | wc -l; touch /tmp/pmr-mine; ls /tmp; exec sleep 300", "--private-tmp");
    if ran.code != Some(0) {
        ran.complains("making a mount namespace, for read-only paths or a private /tmp");
        return;
    }
    home.logged("it-out.log", "0\npmr-mine\n");
    assert!(!std::path::Path::new("/tmp/pmr-mine").exists());
    home.ok("describe it").says("has its own /tmp");
}

#[test]
fn an_app_cannot_write_to_read_only_paths() {
    let home = Home::new();
    let work = home.work().display().to_string();
    let line = format!("cd {work}; touch new || echo refused; exec sleep 300");
    let ran = start(&home, &line, &format!("--read-only-path {work}"));
    if ran.code != Some(0) {
        ran.complains("making a mount namespace, for read-only paths or a private /tmp");
        return;
    }
    home.logged("it-out.log", "refused\n");
    home.write("ours", "we can");
    assert!(!home.work().join("new").exists());
}

#[test]
fn a_hidden_process_is_found_in_its_cgroup() {
    let home = Home::new();
    if !allowed(&home, "control groups") {
        return;
    }
    // A process with a session of its own, no parent, no variables and no pipe of the daemon.
    let name = format!("4{}", std::process::id());
    let line = format!("(setsid env -i sleep {name} </dev/null >/dev/null 2>&1 &); exec sleep 300");
    start(&home, &line, "").ok();
    let hidden = || -> Vec<i32> {
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| processes::command_line(*pid) == format!("sleep {name}")).collect()
    };
    eventually::until("it is there", || !hidden().is_empty());
    home.ok("stop it");
    assert!(hidden().is_empty());
}

#[test]
fn an_invalid_limit_is_named() {
    let home = Home::new();
    start(&home, "true", "--cpu fast").refuses("--cpu").complains("a percentage of one");
    let path = home.write("bad.json", r#"{"apps": [{"name": "x", "script": "true", "limits": {"mem": 1}}]}"#);
    home.run(&format!("start {}", path.display())).refuses("apps[0].limits");
}
