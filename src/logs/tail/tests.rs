//! The follower against real files that grow, move, shrink and vanish.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

struct Scene {
    folder: tempfile::TempDir,
    follower: Follower,
    seen: Vec<(usize, String)>,
    count: Arc<AtomicUsize>,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        Scene { folder, follower: Follower::new().unwrap(), seen: Vec::new(), count: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let file = OpenOptions::new().append(true).create(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn follow(&mut self, name: &str, lines: usize) {
        self.follower.add(&self.folder.path().join(name), Start::LastLines(lines)).unwrap();
    }

    /// Reads all there is at present, without waiting.
    fn look(&mut self) {
        let Scene { follower, seen, count, .. } = self;
        let mut sink = |number: usize, piece: Piece<'_>| {
            assert!(piece.starts && piece.ends);
            seen.push((number, String::from_utf8(piece.text.to_vec()).unwrap()));
            count.store(seen.len(), Ordering::Relaxed);
            Ok(())
        };
        while follower.read(&mut sink).unwrap() {}
    }

    /// Waits as `pmr logs` does until `count` lines were seen in all.
    fn wait_for(&mut self, count: usize) {
        self.look();
        while self.seen.len() < count {
            let woken = self.follower.wait(None, None, Some(Duration::from_secs(30))).unwrap();
            assert_eq!(woken, Woken::Changed, "nothing came after {:?}", self.seen.last());
            self.look();
        }
    }

    fn lines(&self) -> Vec<&str> {
        self.seen.iter().map(|(_, line)| &line[..]).collect()
    }
}

#[test]
fn the_last_lines_then_what_comes() {
    let mut scene = Scene::new();
    scene.append("a", "1\n2\n3\n");
    scene.append("b", "x\ny");
    scene.follow("a", 2);
    scene.follow("b", 0);
    scene.wait_for(2);
    scene.append("b", "z\n");
    scene.append("a", "4\n");
    scene.wait_for(4);
    scene.seen[2..].sort();
    assert_eq!(
        scene.seen.iter().map(|(number, line)| (*number, &line[..])).collect::<Vec<_>>(),
        [(0, "2"), (0, "3"), (0, "4"), (1, "z")]
    );
}

#[test]
fn a_file_in_a_folder_that_does_not_exist_yet() {
    let mut scene = Scene::new();
    scene.follow("deep/er/a", 15);
    scene.look();
    fs::create_dir(scene.path("deep")).unwrap();
    scene.look();
    fs::create_dir(scene.path("deep/er")).unwrap();
    scene.append("deep/er/a", "here\n");
    scene.wait_for(1);
    fs::remove_dir_all(scene.path("deep")).unwrap();
    scene.look();
    fs::create_dir_all(scene.path("deep/er")).unwrap();
    scene.append("deep/er/a", "again\n");
    scene.wait_for(2);
    assert_eq!(scene.lines(), ["here", "again"]);
}

#[test]
fn rotation_reads_the_old_file_to_its_end_first() {
    let mut scene = Scene::new();
    scene.append("a", "1\n");
    scene.follow("a", 15);
    scene.wait_for(1);
    fs::rename(scene.path("a"), scene.path("a.1")).unwrap();
    fs::write(scene.path("a"), "").unwrap();
    // The writer has not let go of the old file yet, and stops in mid-line.
    scene.look();
    scene.append("a.1", "2\nthr");
    scene.wait_for(2);
    scene.append("a.1", "ee");
    scene.append("a", "!\n4\n");
    scene.wait_for(4);
    // Two rotations between two looks.
    for number in 5..7 {
        fs::rename(scene.path("a"), scene.path(&format!("a.{number}"))).unwrap();
        scene.append("a", &format!("{number}\n"));
        scene.look();
    }
    scene.wait_for(6);
    assert_eq!(scene.lines(), ["1", "2", "three!", "4", "5", "6"]);
}

#[test]
fn truncation_starts_over() {
    let mut scene = Scene::new();
    scene.append("a", "one\ntwo\nhalf a li");
    scene.follow("a", 1);
    scene.look();
    assert_eq!(scene.lines(), [""; 0], "an unfinished line waits");
    fs::write(scene.path("a"), "").unwrap();
    scene.wait_for(1);
    scene.append("a", "new\n");
    scene.wait_for(2);
    assert_eq!(scene.lines(), ["half a li", "new"]);
}

#[test]
fn a_busy_writer_that_rotates_loses_no_line_in_the_view() {
    const LINES: usize = 20_000;
    let mut scene = Scene::new();
    scene.follow("a", 0);
    let folder = scene.folder.path().to_owned();
    let seen = scene.count.clone();
    let writer = std::thread::spawn(move || {
        let open = || OpenOptions::new().append(true).create(true).open(folder.join("a")).unwrap();
        let mut file = open();
        for number in 0..LINES {
            writeln!(file, "{number}").unwrap();
            if number % 997 == 996 {
                fs::rename(folder.join("a"), folder.join(format!("a.{number}"))).unwrap();
                let next = open();
                writeln!(file, "the last of {number}").unwrap();
                file = next;
            }
            // A look between two rotations is what a follower needs: it cannot open a name that is gone again.
            while number % 997 == 0 && seen.load(Ordering::Relaxed) <= number + number / 997 {
                std::thread::yield_now();
            }
        }
    });
    scene.wait_for(LINES + LINES / 997);
    writer.join().unwrap();
    let mut expected = Vec::new();
    for number in 0..LINES {
        expected.push(number.to_string());
        if number % 997 == 996 {
            expected.push(format!("the last of {number}"));
        }
    }
    assert!(scene.lines() == expected);
}

#[test]
fn one_path_twice_and_things_that_are_no_files() {
    let mut scene = Scene::new();
    scene.follow("a", 0);
    scene.follow("a", 0);
    scene.follow("", 15);
    let number = scene.follower.add(Path::new("/dev/null"), Start::LastLines(15)).unwrap();
    scene.follower.catch_up(number, &mut |_| panic!("nothing in /dev/null")).unwrap();
    scene.append("a", "x\n");
    scene.wait_for(2);
    assert_eq!(scene.seen, [(0, "x".into()), (1, "x".into())]);
}

#[test]
fn a_quiet_follower_sleeps_and_notices_that_its_reader_left() {
    use std::os::fd::AsFd;
    let mut scene = Scene::new();
    scene.append("a", "prompt> ");
    scene.follow("a", 15);
    scene.look();
    // What the look itself did may still be in the queue, but not for ever.
    let calm = Some(Duration::from_millis(20));
    assert!((0..50).any(|_| {
        scene.look();
        scene.follower.wait(None, None, calm).unwrap() == Woken::TimedOut
    }));
    assert!(scene.follower.holds());
    let mut pieces = Vec::new();
    let mut sink = |_, piece: Piece<'_>| {
        pieces.push((piece.text.to_vec(), piece.ends));
        Ok(())
    };
    scene.follower.release(&mut sink).unwrap();
    assert_eq!(pieces, [(b"prompt> ".to_vec(), false)]);
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(scene.follower.wait(None, Some(writer.as_fd()), calm).unwrap(), Woken::TimedOut);
    drop(reader);
    assert_eq!(scene.follower.wait(None, Some(writer.as_fd()), None).unwrap(), Woken::HungUp);
}

#[test]
fn what_came_since_a_moment_and_nothing_from_before() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut scene = Scene::new();
    for name in ["grown", "emptied", "replaced"] {
        scene.append(name, "from before\n");
    }
    fs::write(elsewhere.path().join("old"), "from before\n").unwrap();
    let ends = Ends::of(scene.folder.path()).unwrap();
    scene.append("grown", "grown\n");
    fs::write(scene.path("emptied"), "emptied\n").unwrap();
    fs::rename(scene.path("replaced"), scene.path("replaced.1")).unwrap();
    scene.append("replaced", "a new file, longer than before\n");
    scene.append("new", "new\n");
    for name in ["grown", "emptied", "replaced", "new", "not yet"] {
        scene.follower.add(&scene.folder.path().join(name), Start::Since(&ends)).unwrap();
    }
    scene.follower.add(&elsewhere.path().join("old"), Start::Since(&ends)).unwrap();
    scene.look();
    assert_eq!(scene.lines(), ["grown", "emptied", "a new file, longer than before", "new"]);
    scene.append("not yet", "at last\n");
    scene.wait_for(5);
    assert!(Ends::of(&scene.path("nowhere")).is_ok(), "no folder, no files");
}

#[test]
fn what_came_before_the_watch_stood_is_looked_for() {
    let mut scene = Scene::new();
    let path = scene.path("home/sock");
    scene.follower.wake_for(&path).unwrap();
    fs::create_dir(path.parent().unwrap()).unwrap();
    assert_eq!(scene.follower.wait(None, None, Some(Duration::from_secs(30))).unwrap(), Woken::Changed);
    // The folder is not watched yet: no event will tell of this.
    fs::write(&path, "").unwrap();
    assert!(scene.follower.read(&mut |_, _| Ok(())).unwrap(), "the caller is to look again");
}

#[test]
fn it_wakes_for_a_socket_that_takes_calls() {
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    let mut scene = Scene::new();
    let path = scene.path("home/sock");
    scene.follower.wake_for(&path).unwrap();
    let (made, called) = (path.clone(), std::sync::mpsc::channel::<()>());
    let server = std::thread::spawn(move || {
        fs::create_dir(made.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&made).unwrap();
        fs::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let accepted = listener.accept().unwrap();
        called.1.recv().unwrap_err();
        drop(accepted);
    });
    let limit = Some(Duration::from_secs(30));
    let socket = loop {
        scene.look();
        match UnixStream::connect(&path) {
            Ok(socket) => break socket,
            Err(_) => assert_eq!(scene.follower.wait(None, None, limit).unwrap(), Woken::Changed),
        }
    };
    // Calm, until the other side ends the call.
    let calm = Some(Duration::from_millis(20));
    assert!((0..50).any(|_| {
        scene.look();
        scene.follower.wait(Some(socket.as_fd()), None, calm).unwrap() == Woken::TimedOut
    }));
    drop(called.0);
    assert_eq!(scene.follower.wait(Some(socket.as_fd()), None, limit).unwrap(), Woken::Changed);
    server.join().unwrap();
}
