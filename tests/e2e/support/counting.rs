//! Reads the logs of `count.sh` and `count.py`: each line has the pid of its writer and the number of the line.

use std::collections::BTreeMap;

/// The last number of each process. Fails the test if a line is lost, duplicated, cut or out of order. Text after the
/// last newline is incomplete and ignored.
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

/// The pid and the number of a line.
pub fn parse(line: &str) -> Option<(i32, u64)> {
    let (pid, number) = line.split_once(' ')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}
