//! Searches for a line: it may come in any pieces, and daemons may change meanwhile.

use std::os::fd::AsFd;

use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::spec::health::Pattern;

fn awaited(pattern: &str) -> (Arc<LineSearch>, Receiver<()>) {
    let (line, found) = LineSearch::new(&Pattern::try_from(pattern.to_owned()).unwrap());
    (Arc::new(line), found)
}

impl Fixture {
    /// Pumps a pipe that is searched for a line to the file, or to nowhere.
    fn pump_with_search(&self, reader: &io::PipeReader, path: Option<&Path>, line: &Arc<LineSearch>) -> Pumping {
        let pipe = reader.as_fd().try_clone_to_owned().unwrap();
        let file = path.map(|path| self.logs.open(path));
        self.logs.pump(Output { pipe, file, awaited: Some(Arc::clone(line)), line_counter: None }).unwrap()
    }
}

/// Waits until the line is found.
fn wait_until_found(mut found: Receiver<()>) {
    eventually("the line is found", || found.try_recv() == Ok(()));
}

#[test]
fn a_line_is_found_in_whole_lines_of_either_output_and_every_byte_arrives() {
    let fixture = Fixture::new();
    let (path, other) = (fixture.path("x.log"), fixture.path("e.log"));
    let (line, mut found) = awaited("listening on 80");
    let ((reader, mut out), (err_reader, mut err)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let (pumping, err_pumping) = (
        fixture.pump_with_search(&reader, Some(&path), &line),
        fixture.pump_with_search(&err_reader, Some(&other), &line),
    );
    out.write_all(b"listening\non 80\nprompt? ").unwrap();
    eventually("the whole lines", || content(&path) == b"listening\non 80\n");
    err.write_all(b"\xff listening o").unwrap();
    out.write_all(b"no\n").unwrap();
    eventually("the line that does not match", || content(&path) == b"listening\non 80\nprompt? no\n");
    assert_eq!((found.try_recv(), content(&other)), (Err(TryRecvError::Empty), vec![]));
    err.write_all(b"n 80!\r\n").unwrap();
    wait_until_found(found);
    // From now on nothing is held back in either of them.
    err.write_all(b"half").unwrap();
    out.write_all(b"half").unwrap();
    eventually("half a line", || content(&other).ends_with(b"80!\r\nhalf") && content(&path).ends_with(b"no\nhalf"));
    drop((out, err));
    fixture.finish(pumping);
    fixture.finish(err_pumping);
}

#[test]
fn a_last_line_without_a_newline_and_discarded_output_are_searched() {
    let fixture = Fixture::new();
    let (line, found) = awaited(r"/^up on \d+$/");
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = fixture.pump_with_search(&reader, None, &line);
    writer.write_all(b"it is up on 80\nup on 80 soon\nup on ").unwrap();
    writer.write_all(b"80").unwrap();
    drop(writer);
    fixture.finish(pumping);
    wait_until_found(found);
}

#[test]
fn an_endless_line_is_not_held_back_by_a_search() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (line, found) = awaited("ready");
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = fixture.pump_with_search(&reader, Some(&path), &line);
    writer.write_all(&vec![b'x'; 3_000_000]).unwrap();
    writer.write_all(b"\nready\n").unwrap();
    wait_until_found(found);
    drop(writer);
    fixture.finish(pumping);
    assert_eq!(content(&path).len(), 3_000_007);
}

#[test]
fn a_search_that_was_given_up_holds_nothing_back() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (line, mut found) = awaited("ready");
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = fixture.pump_with_search(&reader, Some(&path), &line);
    writer.write_all(b"first\nprompt? ").unwrap();
    eventually("the whole line", || content(&path) == b"first\n");
    line.give_up();
    assert_eq!(found.try_recv(), Err(TryRecvError::Closed));
    eventually("the beginning of the next", || content(&path) == b"first\nprompt? ");
    drop(writer);
    fixture.finish(pumping);
}

#[test]
fn the_next_daemon_completes_a_search_and_sees_an_earlier_find() {
    let (reader, mut writer) = io::pipe().unwrap();
    let first = Fixture::new();
    let path = first.path("x.log");
    let (line, mut found) = awaited("listening on 80");
    first.pump_with_search(&reader, Some(&path), &line);
    writer.write_all(b"first\nlistening o").unwrap();
    eventually("the whole line", || content(&path) == b"first\n");
    let Fixture { logs, folder, .. } = first;
    drop(logs);
    assert_eq!(found.try_recv(), Err(TryRecvError::Empty));

    let second = Fixture::new();
    let (line, found) = awaited("listening on 80");
    second.pump_with_search(&reader, Some(&path), &line);
    writer.write_all(b"n 80\nlater\n").unwrap();
    eventually("all lines", || content(&path) == b"first\nlistening on 80\nlater\n");
    // This daemon dies before it acts on the find.
    drop((found, second));

    let third = Fixture::new();
    let (line, found) = awaited("listening on 80");
    let pumping = third.pump_with_search(&reader, Some(&path), &line);
    wait_until_found(found);
    drop(writer);
    third.finish(pumping);
    drop(folder);
}
