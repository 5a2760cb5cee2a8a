//! Lines that somebody waits for, in whatever pieces they come, and whoever reads the pipe by then.

use std::os::fd::AsFd;

use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::spec::health::Pattern;

fn awaited(pattern: &str) -> (Arc<AwaitedLine>, Receiver<()>) {
    let (line, found) = AwaitedLine::new(&Pattern::try_from(pattern.to_owned()).unwrap());
    (Arc::new(line), found)
}

impl Scene {
    /// Pumps a pipe, in which a line is awaited, to the file, or to nowhere.
    fn listen(&self, reader: &io::PipeReader, path: Option<&Path>, line: &Arc<AwaitedLine>) -> Pumping {
        let pipe = reader.as_fd().try_clone_to_owned().unwrap();
        let file = path.map(|path| self.logs.open(path));
        self.logs.pump(Output { pipe, file, awaited: Some(Arc::clone(line)), tally: None }).unwrap()
    }
}

/// Waits until the line is found.
fn find(mut found: Receiver<()>) {
    eventually("the line is found", || found.try_recv() == Ok(()));
}

#[test]
fn a_line_is_found_in_whole_lines_of_either_output_and_every_byte_arrives() {
    let scene = Scene::new();
    let (path, other) = (scene.path("x.log"), scene.path("e.log"));
    let (line, mut found) = awaited("listening on 80");
    let ((reader, mut out), (err_reader, mut err)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let (pumping, err_pumping) =
        (scene.listen(&reader, Some(&path), &line), scene.listen(&err_reader, Some(&other), &line));
    out.write_all(b"listening\non 80\nprompt? ").unwrap();
    eventually("the whole lines", || content(&path) == b"listening\non 80\n");
    err.write_all(b"\xff listening o").unwrap();
    out.write_all(b"no\n").unwrap();
    eventually("the line in which nothing is", || content(&path) == b"listening\non 80\nprompt? no\n");
    assert_eq!((found.try_recv(), content(&other)), (Err(TryRecvError::Empty), vec![]));
    err.write_all(b"n 80!\r\n").unwrap();
    find(found);
    // From now on nothing is held back in either of them.
    err.write_all(b"half").unwrap();
    out.write_all(b"half").unwrap();
    eventually("half a line", || content(&other).ends_with(b"80!\r\nhalf") && content(&path).ends_with(b"no\nhalf"));
    drop((out, err));
    scene.finish(pumping);
    scene.finish(err_pumping);
}

#[test]
fn a_last_line_needs_no_end_and_output_for_nobody_is_looked_at_too() {
    let scene = Scene::new();
    let (line, found) = awaited(r"/^up on \d+$/");
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = scene.listen(&reader, None, &line);
    writer.write_all(b"it is up on 80\nup on 80 soon\nup on ").unwrap();
    writer.write_all(b"80").unwrap();
    drop(writer);
    scene.finish(pumping);
    find(found);
}

#[test]
fn an_endless_line_is_not_held_back() {
    let scene = Scene::new();
    let path = scene.path("x.log");
    let (line, found) = awaited("ready");
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = scene.listen(&reader, Some(&path), &line);
    writer.write_all(&vec![b'x'; 3_000_000]).unwrap();
    writer.write_all(b"\nready\n").unwrap();
    find(found);
    drop(writer);
    scene.finish(pumping);
    assert_eq!(content(&path).len(), 3_000_007);
}

#[test]
fn who_waits_no_longer_holds_nothing_back() {
    let scene = Scene::new();
    let path = scene.path("x.log");
    let (line, mut found) = awaited("ready");
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = scene.listen(&reader, Some(&path), &line);
    writer.write_all(b"first\nprompt? ").unwrap();
    eventually("the whole line", || content(&path) == b"first\n");
    line.give_up();
    assert_eq!(found.try_recv(), Err(TryRecvError::Closed));
    eventually("the beginning of the next", || content(&path) == b"first\nprompt? ");
    drop(writer);
    scene.finish(pumping);
}

#[test]
fn a_successor_finds_what_was_begun_and_hears_of_what_was_found() {
    let (reader, mut writer) = io::pipe().unwrap();
    let first = Scene::new();
    let path = first.path("x.log");
    let (line, mut found) = awaited("listening on 80");
    first.listen(&reader, Some(&path), &line);
    writer.write_all(b"first\nlistening o").unwrap();
    eventually("the whole line", || content(&path) == b"first\n");
    let Scene { logs, folder, .. } = first;
    drop(logs);
    assert_eq!(found.try_recv(), Err(TryRecvError::Empty));

    let second = Scene::new();
    let (line, found) = awaited("listening on 80");
    second.listen(&reader, Some(&path), &line);
    writer.write_all(b"n 80\nlater\n").unwrap();
    eventually("all lines", || content(&path) == b"first\nlistening on 80\nlater\n");
    // Nobody came to act on it.
    drop((found, second));

    let third = Scene::new();
    let (line, found) = awaited("listening on 80");
    let pumping = third.listen(&reader, Some(&path), &line);
    find(found);
    drop(writer);
    third.finish(pumping);
    drop(folder);
}
