//! Lines are counted while the counter is on, and are moved in either case.

use std::io::Write;

use super::*;

#[test]
fn lines_are_counted_while_the_counter_is_on() {
    let fixture = Fixture::new();
    let path = fixture.path("lines.log");
    let counter = Arc::new(LineCounter::default());
    let (reader, mut writer) = io::pipe().unwrap();
    let mut output = output(reader, Some(fixture.logs.open(&path)));
    output.line_counter = Some(Arc::clone(&counter));
    let pumping = fixture.logs.pump(output).unwrap();
    writer.write_all(b"before\n").unwrap();
    let shows = |text: &str| eventually("it is in the file", || content(&path) == text.as_bytes());
    shows("before\n");
    counter.turn(true);
    writer.write_all(b"one\ntwo\nhal").unwrap();
    shows("before\none\ntwo\n");
    assert_eq!(counter.take(), 2);
    writer.write_all(b"f\n").unwrap();
    shows("before\none\ntwo\nhalf\n");
    assert_eq!((counter.take(), counter.take()), (1, 0));
    counter.turn(false);
    writer.write_all(b"after\n").unwrap();
    drop(writer);
    fixture.finish(pumping);
    assert_eq!(counter.take(), 0);
}
