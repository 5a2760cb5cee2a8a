//! Waiting until output has arrived in its file.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// Longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn catch_up(fixture: &Fixture, limit: Duration) {
    fixture.logs.inner.dispatcher.catch_up(limit, |pump| pump.path().is_some());
}

#[test]
fn after_a_catch_up_the_last_output_is_in_the_file() {
    let fixture = Fixture::new();
    for round in 0..50 {
        let path = fixture.path(&format!("{round}.log"));
        let (mut writer, pumping) = fixture.pump(&path);
        writer.write_all(&[b'x'; 40_000]).unwrap();
        catch_up(&fixture, FOR_EVER);
        assert_eq!(content(&path).len(), 40_000);
        writer.write_all(b"last words").unwrap();
        drop(writer);
        fixture.runtime.block_on(fixture.logs.catch_up(|_| true));
        assert!(content(&path).ends_with(b"last words"));
        fixture.finish(pumping);
    }
}

#[test]
fn a_catch_up_does_not_wait_for_the_beginning_of_a_line() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let ((mut one, of_one), (other, of_other)) = (fixture.pump(&path), fixture.pump(&path));
    one.write_all(b"a line\nand the next begins").unwrap();
    catch_up(&fixture, FOR_EVER);
    assert_eq!(content(&path), b"a line\n");
    one.write_all(b", and ends\n").unwrap();
    catch_up(&fixture, FOR_EVER);
    assert_eq!(content(&path), b"a line\nand the next begins, and ends\n");
    drop((one, other));
    fixture.finish(of_one);
    fixture.finish(of_other);
}

#[test]
fn a_catch_up_with_a_file_that_blocks_ends_at_its_limit() {
    let fixture = Fixture::new();
    let path = fixture.path("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(b"for the reader of the fifo").unwrap();
    catch_up(&fixture, Duration::from_millis(20));
    fixture.logs.inner.dispatcher.catch_up(FOR_EVER, |pump| pump.path() != Some(&*path));
    drop(writer);
    assert_eq!(content(&path), b"for the reader of the fifo");
    fixture.finish(pumping);
}
