//! The follower against real files that grow, move, shrink and vanish.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    follower: Follower,
    seen: Vec<(usize, String)>,
    count: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        Fixture { folder, follower: Follower::new().unwrap(), seen: Vec::new(), count: Arc::default() }
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

    /// Reads all present bytes, without waiting.
    fn read(&mut self) {
        let Fixture { follower, seen, count, .. } = self;
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
        self.read();
        while self.seen.len() < count {
            let woken = self.follower.wait(None, None, Some(Duration::from_secs(30))).unwrap();
            assert_eq!(woken, WakeReason::Changed, "nothing came after {:?}", self.seen.last());
            self.read();
        }
    }

    fn lines(&self) -> Vec<&str> {
        self.seen.iter().map(|(_, line)| &line[..]).collect()
    }
}

#[test]
fn the_follower_shows_the_last_lines_and_then_new_ones() {
    let mut fixture = Fixture::new();
    fixture.append("a", "1\n2\n3\n");
    fixture.append("b", "x\ny");
    fixture.follow("a", 2);
    fixture.follow("b", 0);
    fixture.wait_for(2);
    fixture.append("b", "z\n");
    fixture.append("a", "4\n");
    fixture.wait_for(4);
    fixture.seen[2..].sort();
    assert_eq!(
        fixture.seen.iter().map(|(number, line)| (*number, &line[..])).collect::<Vec<_>>(),
        [(0, "2"), (0, "3"), (0, "4"), (1, "z")]
    );
}

#[test]
fn a_file_is_followed_whose_folder_does_not_exist_yet() {
    let mut fixture = Fixture::new();
    fixture.follow("deep/er/a", 15);
    fixture.read();
    fs::create_dir(fixture.path("deep")).unwrap();
    fixture.read();
    fs::create_dir(fixture.path("deep/er")).unwrap();
    fixture.append("deep/er/a", "here\n");
    fixture.wait_for(1);
    fs::remove_dir_all(fixture.path("deep")).unwrap();
    fixture.read();
    fs::create_dir_all(fixture.path("deep/er")).unwrap();
    fixture.append("deep/er/a", "again\n");
    fixture.wait_for(2);
    assert_eq!(fixture.lines(), ["here", "again"]);
}

#[test]
fn after_a_rotation_the_old_file_is_read_to_its_end_first() {
    let mut fixture = Fixture::new();
    fixture.append("a", "1\n");
    fixture.follow("a", 15);
    fixture.wait_for(1);
    fs::rename(fixture.path("a"), fixture.path("a.1")).unwrap();
    fs::write(fixture.path("a"), "").unwrap();
    // The writer still has the old file open, and stops in the middle of a line.
    fixture.read();
    fixture.append("a.1", "2\nthr");
    fixture.wait_for(2);
    fixture.append("a.1", "ee");
    fixture.append("a", "!\n4\n");
    fixture.wait_for(4);
    // Two rotations between two reads.
    for number in 5..7 {
        fs::rename(fixture.path("a"), fixture.path(&format!("a.{number}"))).unwrap();
        fixture.append("a", &format!("{number}\n"));
        fixture.read();
    }
    fixture.wait_for(6);
    assert_eq!(fixture.lines(), ["1", "2", "three!", "4", "5", "6"]);
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    let mut fixture = Fixture::new();
    fixture.append("a", "one\ntwo\nhalf a li");
    fixture.follow("a", 1);
    fixture.read();
    assert_eq!(fixture.lines(), [""; 0], "an unfinished line waits");
    fs::write(fixture.path("a"), "").unwrap();
    fixture.wait_for(1);
    fixture.append("a", "new\n");
    fixture.wait_for(2);
    assert_eq!(fixture.lines(), ["half a li", "new"]);
}

#[test]
fn a_busy_writer_that_rotates_loses_no_line_in_the_view() {
    const LINES: usize = 20_000;
    let mut fixture = Fixture::new();
    fixture.follow("a", 0);
    let folder = fixture.folder.path().to_owned();
    let seen = fixture.count.clone();
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
            // The follower needs a read between two rotations: it cannot open a name that is gone again.
            while number % 997 == 0 && seen.load(Ordering::Relaxed) <= number + number / 997 {
                std::thread::yield_now();
            }
        }
    });
    fixture.wait_for(LINES + LINES / 997);
    writer.join().unwrap();
    let mut expected = Vec::new();
    for number in 0..LINES {
        expected.push(number.to_string());
        if number % 997 == 996 {
            expected.push(format!("the last of {number}"));
        }
    }
    assert!(fixture.lines() == expected);
}

#[test]
fn a_path_can_be_followed_twice_and_devices_have_no_lines() {
    let mut fixture = Fixture::new();
    fixture.follow("a", 0);
    fixture.follow("a", 0);
    fixture.follow("", 15);
    let number = fixture.follower.add(Path::new("/dev/null"), Start::LastLines(15)).unwrap();
    fixture.follower.catch_up(number, &mut |_| panic!("nothing in /dev/null")).unwrap();
    fixture.append("a", "x\n");
    fixture.wait_for(2);
    assert_eq!(fixture.seen, [(0, "x".into()), (1, "x".into())]);
}

#[test]
fn a_follower_without_news_sleeps_until_its_reader_hangs_up() {
    use std::os::fd::AsFd;
    let mut fixture = Fixture::new();
    fixture.append("a", "prompt> ");
    fixture.follow("a", 15);
    fixture.read();
    // Events of the read itself may still be in the queue, but not for ever.
    let no_event = Some(Duration::from_millis(20));
    assert!((0..50).any(|_| {
        fixture.read();
        fixture.follower.wait(None, None, no_event).unwrap() == WakeReason::TimedOut
    }));
    assert!(fixture.follower.holds_back());
    let mut pieces = Vec::new();
    let mut sink = |_, piece: Piece<'_>| {
        pieces.push((piece.text.to_vec(), piece.ends));
        Ok(())
    };
    fixture.follower.release(&mut sink).unwrap();
    assert_eq!(pieces, [(b"prompt> ".to_vec(), false)]);
    let (reader, writer) = std::io::pipe().unwrap();
    assert_eq!(fixture.follower.wait(None, Some(writer.as_fd()), no_event).unwrap(), WakeReason::TimedOut);
    drop(reader);
    assert_eq!(fixture.follower.wait(None, Some(writer.as_fd()), None).unwrap(), WakeReason::HungUp);
}

#[test]
fn only_lines_after_the_recorded_ends_are_shown() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new();
    for name in ["grown", "emptied", "replaced"] {
        fixture.append(name, "from before\n");
    }
    fs::write(elsewhere.path().join("old"), "from before\n").unwrap();
    let ends = Ends::of(fixture.folder.path()).unwrap();
    fixture.append("grown", "grown\n");
    fs::write(fixture.path("emptied"), "emptied\n").unwrap();
    fs::rename(fixture.path("replaced"), fixture.path("replaced.1")).unwrap();
    fixture.append("replaced", "a new file, longer than before\n");
    fixture.append("new", "new\n");
    for name in ["grown", "emptied", "replaced", "new", "not yet"] {
        fixture.follower.add(&fixture.folder.path().join(name), Start::Since(&ends)).unwrap();
    }
    fixture.follower.add(&elsewhere.path().join("old"), Start::Since(&ends)).unwrap();
    fixture.read();
    assert_eq!(fixture.lines(), ["grown", "emptied", "a new file, longer than before", "new"]);
    fixture.append("not yet", "at last\n");
    fixture.wait_for(5);
    assert!(Ends::of(&fixture.path("nowhere")).is_ok(), "no folder, no files");
}

#[test]
fn a_file_made_before_its_folder_was_watched_is_found() {
    let mut fixture = Fixture::new();
    let path = fixture.path("home/sock");
    fixture.follower.wake_for(&path).unwrap();
    fs::create_dir(path.parent().unwrap()).unwrap();
    assert_eq!(fixture.follower.wait(None, None, Some(Duration::from_secs(30))).unwrap(), WakeReason::Changed);
    // The folder is not watched yet: no event reports this file.
    fs::write(&path, "").unwrap();
    assert!(fixture.follower.read(&mut |_, _| Ok(())).unwrap(), "the caller must read again");
}

#[test]
fn the_follower_wakes_when_a_socket_accepts_connections() {
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    let mut fixture = Fixture::new();
    let path = fixture.path("home/sock");
    fixture.follower.wake_for(&path).unwrap();
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
        fixture.read();
        match UnixStream::connect(&path) {
            Ok(socket) => break socket,
            Err(_) => assert_eq!(fixture.follower.wait(None, None, limit).unwrap(), WakeReason::Changed),
        }
    };
    // No event until the other side closes the connection.
    let no_event = Some(Duration::from_millis(20));
    assert!((0..50).any(|_| {
        fixture.read();
        fixture.follower.wait(Some(socket.as_fd()), None, no_event).unwrap() == WakeReason::TimedOut
    }));
    drop(called.0);
    assert_eq!(fixture.follower.wait(Some(socket.as_fd()), None, limit).unwrap(), WakeReason::Changed);
    server.join().unwrap();
}
