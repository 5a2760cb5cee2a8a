//! Logs: names and content of the files, and `pmr logs` reading and following them.

use std::io::Read;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::eventually::{WAIT_LIMIT, until};
use crate::support::pmr::Running;
use crate::support::{Home, app, eventually, example, pmr, processes};

#[test]
fn log_files_are_named_as_scripts_expect() {
    let home = Home::new();
    let script = example("ticker.sh");
    home.ok(&format!("start {script} -n my_app"));
    home.ok(&format!("start {script} -n pair -i 2 -x"));
    home.ok(&format!("start {script} -n merged -i 2 -x --merge-logs"));
    home.ok(&format!("start {script} -n own -o out/here.log -e /dev/null"));
    for file in ["my-app-out.log", "pair-out-1.log", "pair-out-2.log", "merged-out.log"] {
        home.logged(file, "tick 1\n");
    }
    until("the app's own path", || home.work().join("out/here.log").exists());
    until("both write the merged file", || home.log("merged-out.log").matches("tick 1\n").count() == 2);
    assert_eq!(home.one("own").text("pm_err_log_path"), "");
    home.ok("describe own").says("discarded");
}

#[test]
fn log_bytes_are_kept_unchanged() {
    let home = Home::new();
    home.ok(&format!("start {}", app("odd-bytes.sh")));
    let path = home.root().join("logs/odd-bytes-out.log");
    let whole = 17 + 3_000_000 + 11;
    let bytes = eventually("all bytes are in the file", || match std::fs::read(&path) {
        Ok(bytes) if bytes.len() >= whole => Ok(bytes),
        other => Err(format!("{:?}", other.map(|bytes| bytes.len()))),
    });
    assert_eq!(bytes.len(), whole);
    assert!(bytes.starts_with(b"before \xff\xfe\x80 after\nzzz") && bytes.ends_with(b"z\nunfinished"));
    let shown = home.ok("logs odd-bytes --nostream --raw --lines 3 --out");
    assert!(shown.out.len() >= 3_000_000 && shown.out.contains("unfinished"), "{}", shown.out.len());
}

#[test]
fn the_last_lines_are_shown_with_labels_or_raw_or_as_json() {
    let home = Home::new();
    home.write("speak.sh", "for n in 1 2 3 4; do echo out $n; echo err $n >&2; done; exec sleep 1000");
    home.ok("start speak.sh");
    home.ok(&format!("start {} -n other", app("tell.sh")));
    home.logged("speak-error.log", "err 4");
    home.logged("speak-out.log", "out 4");
    home.logged("other-out.log", "size:");
    let shown = home.ok("logs speak --nostream --lines 2").says("speak-out.log last 2 lines:");
    let lines = |text: &str| -> Vec<String> {
        let found = shown.out.lines().filter(|line| line.contains(text));
        found.map(|line| line.split_once(" | ").unwrap().1.to_owned()).collect()
    };
    assert_eq!(lines(" | out"), ["out 3", "out 4"]);
    assert_eq!(lines(" | err"), ["err 3", "err 4"]);
    assert!(!shown.out.contains("args:"), "the other app is not shown");
    assert_eq!(home.ok("logs speak --nostream --lines 1 --raw --out").out, "out 4\n");
    assert_eq!(home.ok("log speak --nostream --lines 1 --raw --err").err, "err 4\n");
    home.ok("logs --nostream").says("pmr.log last 15 lines:").says("args:0").says("out 1");
    home.ok("logs PMR --nostream").says("started in");
    home.ok("logs 0 other --nostream --lines 1").says("out 4").says("colour:");
    let json = home.ok("logs speak --nostream --json --lines 1 --out").out;
    let object: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((object["message"].as_str(), object["type"].as_str()), (Some("out 4"), Some("out")), "{json}");
    assert_eq!((object["app_name"].as_str(), object["process_id"].as_u64()), (Some("speak"), Some(0)));
    home.run("logs nosuch").refuses("no process or namespace matches `nosuch`");
    home.run("logs --err --out").refuses("cannot be used with");
    home.run("logs --lines many").refuses("many");
}

#[test]
fn following_survives_flush_rotation_and_reopening() {
    let home = Home::new();
    home.ok(&format!("start {} -- 0.02", example("ticker.sh")));
    let mut follow = home.pmr(["logs", "ticker", "--raw", "--out", "--lines", "0"]).spawn();
    follow.says("tick ");
    home.ok("flush ticker").says("[ticker](0) ✓");
    assert!(!home.log("ticker-out.log").contains("tick 1\n"), "flushed");
    // Waits for a line of the present file that the follower has printed, and returns it.
    let followed = |follow: &mut Running| {
        eventually("lines of the new file are said", || {
            let (log, said) = (home.log("ticker-out.log"), follow.said());
            let is_said = |line: &&str| said.lines().any(|other| other == *line);
            let line = log.lines().rev().skip(1).filter(|line| line.starts_with("tick ")).find(is_said);
            line.map(str::to_owned).ok_or_else(|| format!("{log}\n{said}"))
        })
    };
    let after_flush = followed(&mut follow);
    let logs = home.root().join("logs");
    std::fs::rename(logs.join("ticker-out.log"), logs.join("ticker-out.log.1")).unwrap();
    home.ok("reloadLogs").says("reopened the log files");
    home.run("reloadLogs nosuch").refuses("unexpected argument");
    followed(&mut follow);
    std::fs::rename(logs.join("ticker-out.log"), logs.join("ticker-out.log.2")).unwrap();
    processes::signal(home.daemon_pid(), Signal::SIGUSR2);
    until("SIGUSR2 reopens", || logs.join("ticker-out.log").exists());
    followed(&mut follow);
    let said = follow.said();
    let whole = &said[..said.rfind('\n').unwrap()];
    let ticks: Vec<u64> = whole.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect();
    // A follower may lose lines between the flush and its next read. A rotation loses none.
    let rotated = after_flush.strip_prefix("tick ").unwrap().parse().unwrap();
    let since: Vec<u64> = ticks.into_iter().filter(|tick| *tick >= rotated).collect();
    assert!(since.windows(2).all(|pair| pair[1] == pair[0] + 1), "{since:?}");
    follow.forget();
    home.ok("restart ticker");
    follow.says("tick 1\n");
    follow.signal(Signal::SIGINT);
    follow.wait(WAIT_LIMIT);
}

#[test]
fn a_rotation_neither_loses_nor_duplicates_lines() {
    let home = Home::new();
    home.write("count.sh", "for n in $(seq 20000); do echo line $n; done; echo finished >&2; exec sleep 1000");
    home.ok("start count.sh");
    let logs = home.root().join("logs");
    for round in 1..=3 {
        let _ = std::fs::rename(logs.join("count-out.log"), logs.join(format!("count-out.log.{round}")));
        home.ok("reloadLogs");
    }
    home.logged("count-error.log", "finished");
    let all = || -> String {
        let parts = ["count-out.log.1", "count-out.log.2", "count-out.log.3", "count-out.log"];
        parts.into_iter().map(|file| home.log(file)).collect()
    };
    until("the last line is there", || all().ends_with("line 20000\n"));
    let expected: String = (1..=20000).map(|n| format!("line {n}\n")).collect();
    assert!(all() == expected, "{} bytes, not {}", all().len(), expected.len());
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let home = Home::new();
    home.ok(&format!("start {} -- 0.02", example("ticker.sh")));
    home.logged("ticker-out.log", "tick");
    let mut logs = Command::new(pmr::BINARY);
    logs.args(["logs", "ticker"]).env("PMR_HOME", home.root()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = logs.spawn().unwrap();
    let mut first = [0; 1];
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    let status = eventually("the command ends", || child.try_wait().unwrap().ok_or_else(String::new));
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!((status.code(), words.as_str()), (Some(0), ""));
}

#[test]
fn log_lines_can_have_a_timestamp_and_a_highlight() {
    let home = Home::new();
    home.ok(&format!("start {} -- 0.05", example("ticker.sh")));
    let mut stamped = home.pmr(["logs", "ticker", "--lines", "0", "--timestamp", "YYYY"]).spawn();
    let line = stamped.says("tick").lines().find(|line| line.contains("tick")).unwrap().to_owned();
    let year = line.split(|c: char| !c.is_ascii_digit()).find(|part| part.len() == 4);
    assert!(year.is_some_and(|year| year.starts_with("20")), "{line}");
    let mut plain = home.pmr(["logs", "ticker", "--lines", "0", "--highlight", "tick"]).spawn();
    assert!(plain.says("tick").contains("tick"));
    let mut json = home.pmr(["logs", "ticker", "--json"]).spawn();
    let object: serde_json::Value = serde_json::from_str(json.says("}\n").lines().next().unwrap()).unwrap();
    assert!(object["timestamp"].is_string() && object["message"].as_str().unwrap().starts_with("t"), "{object}");
}

#[test]
fn flushing_all_empties_every_file() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("tell.sh")));
    home.ok(&format!("start {} -n b", app("tell.sh")));
    home.logged("a-out.log", "size:");
    home.logged("b-out.log", "size:");
    home.ok("flush");
    assert_eq!((home.log("a-out.log"), home.log("b-out.log")), (String::new(), String::new()));
    home.ok("restart a");
    home.logged("a-out.log", "args:0");
    assert!(home.log("a-out.log").starts_with("args"), "no hole of zeros: {:?}", home.log("a-out.log"));
}
