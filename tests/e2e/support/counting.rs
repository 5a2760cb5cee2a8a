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

/// The same for a log that could not be written at times: lines may be missing or cut, and the daemon says where; but
/// none comes twice or too late.
#[track_caller]
pub fn counted_with_gaps(log: &str) -> BTreeMap<i32, u64> {
    let mut reached = BTreeMap::new();
    for (pid, number) in log.lines().filter_map(parse) {
        let last = reached.entry(pid).or_insert(0);
        let is_cut = number < *last && (*last + 1).to_string().starts_with(&number.to_string());
        if is_cut {
            continue;
        }
        assert!(number > *last, "after {last} of {pid} comes {number}");
        *last = number;
    }
    reached
}
