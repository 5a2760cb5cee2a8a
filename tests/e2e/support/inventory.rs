//! Compares the processes of a home in the system with those of `pmr list`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Home, eventually, processes};

/// Waits until the system has exactly the processes of the list: a keeper, its one God, and the processes of each run,
/// of which one has the listed pid. No other process of the home exists, and no zombie.
pub fn processes_match_list(home: &Home) {
    eventually("the processes of the home are those of the list", || check(home));
}

fn check(home: &Home) -> Result<(), String> {
    let (keeper, god) = (home.daemon_pid(), home.god_pid());
    let ran = home.run("jlist");
    let Ok(listed) = serde_json::from_str::<serde_json::Value>(&ran.out) else { return Err(ran.transcript()) };
    let pids = listed.as_array().into_iter().flatten().filter_map(|row| row["pid"].as_i64());
    let listed: BTreeSet<i32> = pids.filter(|pid| *pid != 0).filter_map(|pid| i32::try_from(pid).ok()).collect();
    let mut runs: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for pid in processes::of_home(home.root()).into_iter().filter(|pid| ![keeper, god].contains(pid)) {
        runs.entry(run_of(pid)?).or_default().insert(pid);
    }
    let known: BTreeSet<i32> = runs.values().flatten().copied().collect();
    if let Some(missing) = listed.iter().find(|pid| !known.contains(pid)) {
        return Err(format!("{missing} is listed and does not live"));
    }
    for (run, pids) in &runs {
        if pids.intersection(&listed).count() != 1 {
            let lines: Vec<_> = pids.iter().map(|pid| (pid, processes::command_line(*pid))).collect();
            return Err(format!("of run {run} live {lines:?}, of which one should be listed: {listed:?}"));
        }
    }
    let zombies: Vec<i32> = [keeper, god].into_iter().flat_map(processes::children).collect();
    match zombies.into_iter().find(|pid| processes::state(*pid) == Some('Z')) {
        Some(zombie) => Err(format!("{zombie} is a zombie")),
        None => Ok(()),
    }
}

/// The run of a process, from its environment.
fn run_of(pid: i32) -> Result<String, String> {
    let environ = processes::environ(pid);
    let mut variables = environ.split(|byte| *byte == 0);
    let run = variables.find_map(|variable| variable.strip_prefix(b"PMR_RUN="));
    run.map(|run| String::from_utf8_lossy(run).into_owned())
        .ok_or_else(|| format!("{pid} ({}) belongs to no run", processes::command_line(pid)))
}
