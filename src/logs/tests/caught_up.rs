//! Waiting for what is on its way to a file.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// Longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn catch_up(scene: &Scene, limit: Duration) {
    scene.logs.inner.dispatcher.catch_up(limit, |pump| pump.path().is_some());
}

#[test]
fn what_was_printed_is_in_the_file_then() {
    let scene = Scene::new();
    for round in 0..50 {
        let path = scene.path(&format!("{round}.log"));
        let (mut writer, pumping) = scene.pump(&path);
        writer.write_all(&[b'x'; 40_000]).unwrap();
        catch_up(&scene, FOR_EVER);
        assert_eq!(content(&path).len(), 40_000);
        writer.write_all(b"last words").unwrap();
        drop(writer);
        scene.runtime.block_on(scene.logs.catch_up(|_| true));
        assert!(content(&path).ends_with(b"last words"));
        scene.finish(pumping);
    }
}

#[test]
fn the_beginning_of_a_line_is_not_waited_for() {
    let scene = Scene::new();
    let path = scene.path("x.log");
    let ((mut one, of_one), (other, of_other)) = (scene.pump(&path), scene.pump(&path));
    one.write_all(b"a line\nand the next begins").unwrap();
    catch_up(&scene, FOR_EVER);
    assert_eq!(content(&path), b"a line\n");
    one.write_all(b", and ends\n").unwrap();
    catch_up(&scene, FOR_EVER);
    assert_eq!(content(&path), b"a line\nand the next begins, and ends\n");
    drop((one, other));
    scene.finish(of_one);
    scene.finish(of_other);
}

#[test]
fn a_file_that_takes_nothing_is_given_up_and_holds_up_nobody_else() {
    let scene = Scene::new();
    let path = scene.path("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (mut writer, pumping) = scene.pump(&path);
    writer.write_all(b"for whoever comes to read").unwrap();
    catch_up(&scene, Duration::from_millis(20));
    scene.logs.inner.dispatcher.catch_up(FOR_EVER, |pump| pump.path() != Some(&*path));
    drop(writer);
    assert_eq!(content(&path), b"for whoever comes to read");
    scene.finish(pumping);
}
