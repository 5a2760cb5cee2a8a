//! The views with fixed width, colour and time.

use super::list::{Order, blocks, table};
use super::{Terminal, describe, env, exit_words, report, sample};
use crate::protocol::{Description, Exit, ProcessInfo, ReportLine, Status, Verdict};
use crate::spec::ExecMode;

const NOW: u64 = 1_000_000 + 3 * 3_600_000;

fn plain(width: Option<usize>) -> Terminal {
    Terminal { color: false, width }
}

fn three() -> Vec<ProcessInfo> {
    let stopped = ProcessInfo {
        id: 0,
        name: "worker".into(),
        mode: ExecMode::Fork,
        version: None,
        pid: None,
        status: Status::Stopped,
        restarts: 0,
        memory: 0,
        cpu: 0.0,
        ..sample::info()
    };
    let waiting = ProcessInfo { id: 1, pid: None, status: Status::WaitingRestart, ..sample::info() };
    vec![stopped, waiting, sample::info()]
}

#[test]
fn the_full_list_is_sorted_by_name_then_id() {
    let expected = "\
┌────┬────────┬───────────┬─────────┬─────────┬──────┬────────┬───┬─────────────────┬──────┬────────┬──────┬──────────┐
│ id │ name   │ namespace │ version │ mode    │ pid  │ uptime │ ↺ │ status          │ cpu  │ mem    │ user │ watching │
├────┼────────┼───────────┼─────────┼─────────┼──────┼────────┼───┼─────────────────┼──────┼────────┼──────┼──────────┤
│ 1  │ api    │ default   │ 1.2.3   │ cluster │ 0    │ 0      │ 2 │ waiting restart │ 1.2% │ 42.5mb │ ann  │ disabled │
│ 3  │ api    │ default   │ 1.2.3   │ cluster │ 4711 │ 3h     │ 2 │ online          │ 1.2% │ 42.5mb │ ann  │ disabled │
│ 0  │ worker │ default   │ N/A     │ fork    │ 0    │ 0      │ 0 │ stopped         │ 0%   │ 0b     │ ann  │ disabled │
└────┴────────┴───────────┴─────────┴─────────┴──────┴────────┴───┴─────────────────┴──────┴────────┴──────┴──────────┘";
    assert_eq!(table(&three(), Order::default(), NOW, plain(None)), expected);
    assert_eq!(table(&three(), Order::default(), NOW, plain(Some(119))), expected, "it just fits");
}

#[test]
fn a_narrow_terminal_gets_fewer_columns() {
    let condensed = table(&three(), Order::default(), NOW, plain(Some(100)));
    assert_eq!(condensed.lines().nth(1), Some("│ id │ name   │ mode    │ ↺ │ status          │ cpu  │ mem    │"));
    let mini = table(&three(), Order::default(), NOW, plain(Some(52)));
    assert_eq!(mini.lines().nth(1), Some("│ id │ name   │ status          │ cpu  │ mem    │"));
}

#[test]
fn an_empty_list_is_a_table_without_rows() {
    let text = table(&[], Order::default(), NOW, plain(Some(200)));
    assert_eq!(text.lines().nth(1).map(|line| line.contains("namespace")), Some(true));
    assert_eq!(text.lines().count(), 4);
}

#[test]
fn lists_are_sorted_by_the_chosen_column() {
    let ids = |order: &str| -> Vec<String> {
        let text = table(&three(), order.parse().unwrap(), NOW, plain(None));
        text.lines().skip(3).take(3).map(|line| line.chars().nth(2).unwrap().to_string()).collect()
    };
    assert_eq!(ids("id:desc"), ["3", "1", "0"]);
    assert_eq!(ids("memory"), ["0", "1", "3"]);
    assert_eq!(ids("pid:desc"), ["3", "0", "1"]);
    assert!("size".parse::<Order>().unwrap_err().contains("memory"));
    assert!("id:up".parse::<Order>().is_err());
}

#[test]
fn statuses_are_coloured() {
    let text = table(&three(), Order::default(), NOW, Terminal { color: true, width: None });
    assert!(text.contains("\u{1b}[38;5;10m online") && text.contains("\u{1b}[38;5;9m stopped"), "{text:?}");
    assert_eq!(anstream::adapter::strip_str(&text).to_string(), table(&three(), Order::default(), NOW, plain(None)));
}

#[test]
fn control_characters_in_names_are_replaced() {
    let evil = ProcessInfo { name: "a\u{1b}[2Jb".into(), ..sample::info() };
    assert!(table(&[evil], Order::default(), NOW, plain(None)).contains("a?[2Jb"));
    let long = ProcessInfo { name: "x".repeat(60), ..sample::info() };
    assert!(table(&[long], Order::default(), NOW, plain(None)).contains(&format!("{}…", "x".repeat(39))));
}

#[test]
fn the_mini_list_has_a_block_for_each_process() {
    let text = blocks(&[sample::info()], Order::default(), NOW);
    assert!(text.starts_with("+--- api\nid : 3\nnamespace : default\n"), "{text}");
}

#[test]
fn a_report_has_a_line_for_each_process() {
    let line = |verdict| ReportLine { id: 3, name: "api".into(), verb: "reload".into(), verdict };
    let text = |verdict| report::line(&line(verdict), plain(None));
    assert_eq!(text(Verdict::Done), "[api](3) ✓");
    let failed = Verdict::Failed { reason: "exited with code 1 before it was ready".into(), old_serves: true };
    assert_eq!(
        text(failed),
        "[api](3) ✗ reload: exited with code 1 before it was ready; the old process goes on serving"
    );
    assert_eq!(text(Verdict::Superseded { by: "stop".into() }), "[api](3) ✗ reload: a later `stop` took over");
}

#[test]
fn the_description_of_a_node_worker_without_listeners_has_advice() {
    let idle = Description { listeners: Vec::new(), ..sample::description() };
    let text = describe::text(&[idle], false, NOW, plain(None));
    assert!(
        text.contains("│ nothing through pmr; if the server is a process that this script starts, give pmr"),
        "{text}"
    );
}

#[test]
fn a_description_redacts_secret_arguments_unless_they_are_requested() {
    let mut one = sample::description();
    one.spec.args = vec!["--password=hunter3".into(), "--port=80".into()];
    let shown = |secrets| describe::text(&[one.clone()], secrets, NOW, plain(None));
    assert!(shown(false).contains("--password=[redacted] --port=80"), "{}", shown(false));
    assert!(shown(true).contains("--password=hunter3 --port=80"));
}

#[test]
fn a_description_is_complete_and_redacts_secrets() {
    let text = describe::text(&[sample::description()], false, NOW, plain(None));
    for expected in [
        "Process 3 · api (instance 1)",
        "│ status              │ online",
        "│ uptime              │ 3h",
        "│ created at          │ 1970-01-01T00:15:00Z",
        "│ last exit           │ signal 9 (SIGKILL)",
        "│ listens on          │ [::]:3000 (round robin, 4 workers)",
        "│ connections handled │ 1042",
        "│ error log           │ /h/logs/api-error-3.log",
        "│ interpreter args  │ --enable-source-maps",
        "│ node version      │ v24.11.0",
        "│ mode              │ cluster: pmr deals connections out in turn",
        "│ given up after            │ 16 exits sooner than 1 s",
        "│ memory limit              │ 300.0mb",
        "│ killed after              │ 1600 ms",
        "│ ready when                │ it listens; waits for it 3 s at a start, 30 s at a reload",
        "  DB_PASSWORD=[redacted]",
        "  PORT=3000",
        "`pmr logs 3` follows its output",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    assert!(!text.contains("hunter2"));
    assert!(describe::text(&[sample::description()], true, NOW, plain(None)).contains("DB_PASSWORD=hunter2"));
}

#[test]
fn a_description_fits_the_terminal() {
    let text = describe::text(&[sample::description()], false, NOW, plain(Some(60)));
    let widest = text.lines().filter(|line| line.starts_with('│')).map(|line| line.chars().count()).max();
    assert!(widest <= Some(60), "{text}");
}

#[test]
fn the_environment_is_sorted_and_redacts_secrets() {
    let one = env::text(&[sample::description()], false, plain(None));
    assert_eq!(
        one,
        "DB: [redacted]\nDB_PASSWORD: [redacted]\nHOME: /home/ann\nNODE_APP_INSTANCE: 1\nPORT: 3000\npm_id: 3"
    );
    let two = env::text(&[sample::description(), sample::description()], true, plain(None));
    assert!(two.starts_with("[api](3)\nDB: postgres://u:hunter2@db/x\n"));
}

#[test]
fn exits_are_shown_as_words() {
    assert_eq!(exit_words(Exit::Code(1)), "code 1");
    assert_eq!(exit_words(Exit::Signal(9)), "signal 9 (SIGKILL)");
    assert_eq!(exit_words(Exit::Signal(40)), "signal 40");
    assert_eq!(exit_words(Exit::Unknown), "unknown");
}
