//! Lines are counted while somebody wants to know, and move on all the same.

use std::io::Write;

use super::*;

#[test]
fn lines_count_while_the_tally_is_on() {
    let scene = Scene::new();
    let path = scene.path("tally.log");
    let tally = Arc::new(LineCounter::default());
    let (reader, mut writer) = io::pipe().unwrap();
    let mut output = output(reader, Some(scene.logs.open(&path)));
    output.tally = Some(Arc::clone(&tally));
    let pumping = scene.logs.pump(output).unwrap();
    writer.write_all(b"before\n").unwrap();
    let shows = |text: &str| eventually("it is in the file", || content(&path) == text.as_bytes());
    shows("before\n");
    tally.turn(true);
    writer.write_all(b"one\ntwo\nhal").unwrap();
    shows("before\none\ntwo\n");
    assert_eq!(tally.take(), 2);
    writer.write_all(b"f\n").unwrap();
    shows("before\none\ntwo\nhalf\n");
    assert_eq!((tally.take(), tally.take()), (1, 0));
    tally.turn(false);
    writer.write_all(b"after\n").unwrap();
    drop(writer);
    scene.finish(pumping);
    assert_eq!(tally.take(), 0);
}
