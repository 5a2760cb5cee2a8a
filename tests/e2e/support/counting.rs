//! The logs of `count.sh` and `count.py`: a line is the pid that wrote it and the number of the line.

use std::collections::BTreeMap;

/// How far each process has counted. Fails the test if a line is lost, doubled, cut or out of order. What stands after
/// the last newline is on its way and not looked at.
#[track_caller]
pub fn counted(log: &str) -> BTreeMap<i32, u64> {
    let mut reached = BTreeMap::new();
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    for (at, line) in whole.lines().enumerate() {
        let Some((pid, number)) = parse(line) else { panic!("line {} is {line:?}", at + 1) };
        let last = reached.entry(pid).or_insert(0);
        assert_eq!(number, *last + 1, "after {last} of {pid} comes {line:?}, line {}", at + 1);
        *last = number;
    }
    reached
}

fn parse(line: &str) -> Option<(i32, u64)> {
    let (pid, number) = line.split_once(' ')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}
