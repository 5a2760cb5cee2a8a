//! Ledgers of every version: number and identity of each kept file, by name.

use pmr::keeper::{frames, ledger};

#[test]
fn the_files_kept_by_every_ledger_version_are_found() {
    let mut payload = Vec::new();
    for line in include_str!("ledgers/1/files.txt").lines() {
        let (key, json) = line.split_once(' ').expect("a key and its text");
        frames::add(&mut payload, key, Some(json));
    }
    let mut records = frames::Records::new();
    let bytes = frames::frame(&payload);
    assert_eq!(frames::read(&bytes, &mut records), bytes.len());
    assert_eq!(ledger::format(&records), 1);
    let kept: Vec<(&str, i32)> = ledger::kept(&records).map(|(name, id)| (name, id.number)).collect();
    assert_eq!(kept, [("listen/2/1", 44), ("log/17/out", 31), ("rpc", 9)]);
}
