//! God dies at a certain point inside: between deciding and doing, doing and writing down, sending and noting it.
//!
//! See [`pmr::os::killpoint`]. Debug builds have these points, and only those are tested.

use crate::support::counting::counted;
use crate::support::eventually::until;
use crate::support::listing::Row;
use crate::support::order::in_order;
use crate::support::{Home, app, processes};

use super::{Town, answers, kill_god};

/// How often a command is given again because God died before he answered.
const PATIENCE: u32 = 20;

/// Lets the next God, and him alone, die at these points.
pub fn arm(home: &Home, points: &str) {
    std::fs::write(home.root().join("failpoints"), points).expect("the home can be written");
    kill_god(home);
}

/// Where Gods have died.
pub fn fatal_points(home: &Home) -> Vec<String> {
    let notes = std::fs::read_to_string(home.root().join("killpoints")).unwrap_or_default();
    notes.lines().map(ToOwned::to_owned).collect()
}

impl Town {
    /// Gives a command until it succeeds, or a God who died at it left nothing to do; tells how often that was.
    fn insist(&self, line: &str) -> u32 {
        (1..=PATIENCE)
            .find(|_| {
                answers(&self.home);
                let ran = self.home.run(line);
                ran.code == Some(0) || ran.err.contains("nothing to do")
            })
            .unwrap_or_else(|| panic!("pmr {line} fails {PATIENCE} times"))
    }

    /// Everything at which God can die is done once; returns how often `shell` may have been started again.
    fn bustle(&self) -> u32 {
        let mut starts = self.insist("restart shell");
        self.insist("reload web");
        self.insist("stop python");
        self.insist("start python");
        starts += self.insist("restart shell");
        self.insist("scale web 3");
        self.insist("scale web 2");
        starts
    }

    fn is_well(&self, starts: u32) {
        let web = self.home.when("web", "both workers online", |rows| rows.len() == 2 && rows.iter().all(Row::online));
        assert!(web.iter().all(|row| row.restarts >= 1), "{web:?}");
        self.home.status("python", "online");
        let shell = &self.home.status("shell", "online")[0];
        assert!((2..=u64::from(starts)).contains(&shell.restarts), "{} restarts in {starts} tries", shell.restarts);
        self.logs_go_on();
        in_order(&self.home);
    }
}

fn once(point: &str) {
    let town = Town::new();
    let mut visitors = town.visitors();
    arm(&town.home, &format!("{point}=return"));
    let starts = town.bustle();
    if point.starts_with("hand") && point.contains("-over") {
        town.home.run("update");
        answers(&town.home);
    }
    town.is_well(starts);
    visitors.are_served();
    visitors.leave_content();
    assert_eq!(fatal_points(&town.home), [point]);
}

macro_rules! points {
    ($($name:ident: $point:literal,)*) => { $(
        #[test]
        fn $name() {
            once($point);
        }
    )* };
}

points! {
    decided_and_not_written_down: "decided",
    written_down_and_not_done: "written-down",
    spawned_and_not_written_down: "spawned",
    about_to_stop_one: "terminating",
    told_to_stop_and_not_stopped: "told-to-stop",
    exits_heard_and_not_taken: "reaped",
    in_the_midst_of_taking_over: "recovering",
    having_taken_over: "recovered",
    a_ledger_written_and_not_the_one: "ledger-written",
    a_ledger_started: "ledger-started",
    a_connection_accepted: "accepted",
    a_connection_about_to_be_handed_over: "handing",
    a_connection_handed_over: "handed",
    a_message_heard_and_not_taken: "heard",
    output_moved: "spliced",
    about_to_hand_over_to_a_program: "handing-over",
    handed_over_to_a_program: "handed-over",
}

/// The state is written anew when much of what was written does not count any more.
fn while_compacting(point: &str) {
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
    in_order(&home);
}

#[test]
fn a_compacted_ledger_that_is_not_the_one() {
    while_compacting("compacting");
}

#[test]
fn a_ledger_just_compacted() {
    while_compacting("compacted");
}

/// Each God dies sooner or later, at any of the points.
#[test]
fn now_and_then_everywhere() {
    const RATE: &str = "decided=1%return;written-down=1%return;spawned=5%return;terminating=5%return;\
        told-to-stop=5%return;reaped=5%return;recovering=5%return;recovered=5%return;ledger-written=2%return;\
        accepted=1%return;handing=1%return;handed=1%return;heard=1%return;spliced=1%return";
    let town = Town::new();
    let mut visitors = town.visitors();
    let mut starts = 0;
    for _ in 0..10 {
        arm(&town.home, RATE);
        starts += town.bustle();
    }
    town.kill_god();
    town.is_well(starts);
    visitors.are_served();
    visitors.leave_content();
    let points = fatal_points(&town.home);
    assert!(points.len() > 3, "{points:?}");
}

/// Lines of several outputs in one file stay whole, whoever was writing when God died.
#[test]
fn in_a_file_that_several_share() {
    let town = Town::new();
    let script = app("count.sh");
    let file = town.home.work().join("shared.log").display().to_string();
    let apps =
        format!(r#"{{"name": "s", "script": "{script}", "instances": 3, "merge_logs": true, "out_file": "{file}"}}"#);
    town.home.write("shared.json", &format!(r#"{{"apps": [{apps}]}}"#));
    town.home.ok("start shared.json");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    for point in ["unmarked", "spliced", "unmarked", "spliced"] {
        let before = lines().len();
        arm(&town.home, &format!("{point}=20*off->return"));
        until("there is more", || lines().len() > before + 2000);
    }
    for row in town.home.of("s") {
        until("each goes on", || counted(&lines()).get(&row.pid).is_some_and(|lines| *lines > 50));
        assert!(processes::lives(row.pid));
    }
}
