//! God dies at a certain point of its code: between a decision and its execution, between an action and its record,
//! between sending and recording.
//!
//! See [`pmr::os::killpoint`]. Only debug builds have these points.

use crate::support::counting::counted;
use crate::support::eventually::until;
use crate::support::inventory::processes_match_list;
use crate::support::listing::Row;
use crate::support::{Home, app, processes};

use super::{Fixture, answers, kill_god};

/// How often a command is repeated because God died before it answered.
const TRIES: u32 = 20;

/// Arms these kill points for the next God only, and starts it.
pub fn arm(home: &Home, points: &str) {
    std::fs::write(home.root().join("failpoints"), points).expect("the home can be written");
    kill_god(home);
}

/// The kill points at which Gods have died so far.
pub fn fatal_points(home: &Home) -> Vec<String> {
    let notes = std::fs::read_to_string(home.root().join("killpoints")).unwrap_or_default();
    notes.lines().map(ToOwned::to_owned).collect()
}

impl Fixture {
    /// Repeats a command until it succeeds, or until an earlier attempt left nothing to do. Returns the number of
    /// attempts.
    fn retry(&self, line: &str) -> u32 {
        (1..=TRIES)
            .find(|_| {
                answers(&self.home);
                let ran = self.home.run(line);
                ran.code == Some(0) || ran.err.contains("nothing to do")
            })
            .unwrap_or_else(|| panic!("pmr {line} fails {TRIES} times"))
    }

    /// Runs commands that reach every kill point. Returns how often `shell` may have been restarted.
    fn workload(&self) -> u32 {
        let mut starts = self.retry("restart shell");
        self.retry("reload web");
        self.retry("stop python");
        self.retry("start python");
        starts += self.retry("restart shell");
        self.retry("scale web 3");
        self.retry("scale web 2");
        starts
    }

    fn is_consistent(&self, starts: u32) {
        let web = self.home.when("web", "both workers online", |rows| rows.len() == 2 && rows.iter().all(Row::online));
        assert!(web.iter().all(|row| row.restarts >= 1), "{web:?}");
        self.home.status("python", "online");
        let shell = &self.home.status("shell", "online")[0];
        assert!((2..=u64::from(starts)).contains(&shell.restarts), "{} restarts in {starts} tries", shell.restarts);
        self.logs_go_on();
        processes_match_list(&self.home);
    }
}

fn dies_once(point: &str) {
    let fixture = Fixture::new();
    let mut loads = fixture.loads();
    arm(&fixture.home, &format!("{point}=return"));
    let starts = fixture.workload();
    if point.starts_with("hand") && point.contains("-over") {
        fixture.home.run("update");
        answers(&fixture.home);
    }
    fixture.is_consistent(starts);
    loads.are_served();
    loads.leave_content();
    assert_eq!(fatal_points(&fixture.home), [point]);
}

macro_rules! points {
    ($($name:ident: $point:literal,)*) => { $(
        #[test]
        fn $name() {
            dies_once($point);
        }
    )* };
}

points! {
    god_dies_before_a_decision_is_recorded: "decided",
    god_dies_before_a_recorded_decision_is_executed: "written-down",
    god_dies_before_a_spawn_is_recorded: "spawned",
    god_dies_before_it_stops_a_process: "terminating",
    god_dies_while_a_process_is_stopping: "told-to-stop",
    god_dies_before_reaped_exits_are_handled: "reaped",
    god_dies_during_recovery: "recovering",
    god_dies_right_after_recovery: "recovered",
    god_dies_before_a_new_ledger_is_in_use: "ledger-written",
    god_dies_after_a_ledger_was_started: "ledger-started",
    god_dies_after_it_accepted_a_connection: "accepted",
    god_dies_before_it_passes_a_connection: "handing",
    god_dies_after_it_passed_a_connection: "handed",
    god_dies_before_a_received_message_is_handled: "heard",
    god_dies_after_it_moved_output: "spliced",
    god_dies_before_it_hands_over_to_a_program: "handing-over",
    god_dies_after_it_handed_over_to_a_program: "handed-over",
}

/// The ledger is compacted when most of its records are outdated.
fn dies_while_compacting(point: &str) {
    const APPS: usize = 40;
    let home = Home::new();
    let script = app("tell.sh");
    home.write("many.json", &format!(r#"{{"apps": [{{"name": "many", "script": "{script}", "instances": {APPS}}}]}}"#));
    home.ok("start many.json");
    arm(&home, &format!("{point}=return"));
    until("God has died of it", || {
        home.run("restart many");
        fatal_points(&home) == [point]
    });
    home.when("many", "all online", |rows| rows.len() == APPS && rows.iter().all(Row::online));
    processes_match_list(&home);
}

#[test]
fn god_dies_before_a_compacted_ledger_is_in_use() {
    dies_while_compacting("compacting");
}

#[test]
fn god_dies_after_a_ledger_was_compacted() {
    dies_while_compacting("compacted");
}

/// Each God dies sooner or later, at any of the points.
#[test]
fn gods_die_at_random_points() {
    const RATE: &str = "decided=1%return;written-down=1%return;spawned=5%return;terminating=5%return;\
        told-to-stop=5%return;reaped=5%return;recovering=5%return;recovered=5%return;ledger-written=2%return;\
        accepted=1%return;handing=1%return;handed=1%return;heard=1%return;spliced=1%return";
    let fixture = Fixture::new();
    let mut loads = fixture.loads();
    let mut starts = 0;
    for _ in 0..10 {
        arm(&fixture.home, RATE);
        starts += fixture.workload();
    }
    fixture.kill_god();
    fixture.is_consistent(starts);
    loads.are_served();
    loads.leave_content();
    let points = fatal_points(&fixture.home);
    assert!(points.len() > 3, "{points:?}");
}

/// Lines of several outputs in one file stay whole, whichever output was being written when God died.
#[test]
fn lines_in_a_shared_log_stay_whole() {
    let fixture = Fixture::new();
    let script = app("count.sh");
    let file = fixture.home.work().join("shared.log").display().to_string();
    let apps =
        format!(r#"{{"name": "s", "script": "{script}", "instances": 3, "merge_logs": true, "out_file": "{file}"}}"#);
    fixture.home.write("shared.json", &format!(r#"{{"apps": [{apps}]}}"#));
    fixture.home.ok("start shared.json");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    for point in ["unmarked", "spliced", "unmarked", "spliced"] {
        let before = lines().len();
        arm(&fixture.home, &format!("{point}=20*off->return"));
        until("there is more", || lines().len() > before + 2000);
    }
    for row in fixture.home.of("s") {
        until("each goes on", || counted(&lines()).get(&row.pid).is_some_and(|lines| *lines > 50));
        assert!(processes::lives(row.pid));
    }
}
