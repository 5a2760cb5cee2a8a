//! Limits that the kernel keeps, users, and what an app cannot touch. What a machine does not allow is refused in
//! words; the daemon's log says what there is.

use std::fs;
use std::io::Write;

use crate::support::{Home, eventually, example, http, processes};

/// Starts a shell's line as the app `it`, in `/`, and returns the command's run.
fn start(home: &Home, line: &str, flags: &str) -> crate::support::pmr::Ran {
    let words = ["start", line, "-n", "it", "--cwd", "/"].into_iter().chain(flags.split_whitespace());
    home.pmr(words).run()
}

/// What the daemon found out about this machine, as in `limits on memory: v1`.
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
fn a_memory_hog_is_killed_by_the_kernel_and_that_is_said() {
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
fn a_kill_by_a_person_is_not_taken_for_it() {
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
    // The inner shell gives up at the first refusal; what it started stays.
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
    // A restart with another limit has another.
    home.ok("restart it --cpu 2");
    assert!(quotas(home.one("it").pid).iter().any(|quota| quota.starts_with("200000")));
}

/// The processor quotas of all groups a process is in.
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
fn open_files_are_limited_and_nothing_else_is() {
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
fn node_workers_may_be_somebody_else() {
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
fn new_privileges_can_be_ruled_out() {
    let home = Home::new();
    start(&home, "grep NoNewPrivs /proc/self/status; exec sleep 300", "--no-new-privs").ok();
    home.logged("it-out.log", "NoNewPrivs:\t1\n");
}

#[test]
fn an_app_may_have_a_tmp_of_its_own() {
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
fn an_app_cannot_change_what_is_read_only() {
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
fn a_process_that_hid_from_everything_is_found_in_its_group() {
    let home = Home::new();
    if !allowed(&home, "control groups") {
        return;
    }
    // A session of its own, no parent, no variables, no pipe of ours.
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
fn bad_limits_are_told_by_name() {
    let home = Home::new();
    start(&home, "true", "--cpu fast").refuses("--cpu").complains("a percentage of one");
    let path = home.write("bad.json", r#"{"apps": [{"name": "x", "script": "true", "limits": {"mem": 1}}]}"#);
    home.run(&format!("start {}", path.display())).refuses("apps[0].limits");
}
