//! Pumps and files against real pipes and disks. The bytes must all arrive, in order, whatever happens to the file.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::os::eventually::eventually;

mod catch_up;
mod held_back;
mod kill;
mod line_counter;
mod line_search;
mod truncate;

/// A tokio runtime as the daemon has it, a registry, and a scratch folder.
struct Fixture {
    runtime: tokio::runtime::Runtime,
    logs: LogFiles,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let logs = LogFiles::new(Threads::start("files", 512).unwrap()).unwrap();
        Fixture { runtime, logs, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pump(&self, path: &Path) -> (io::PipeWriter, Pumping) {
        let (reader, writer) = io::pipe().unwrap();
        let pumping = self.logs.pump(output(reader, Some(self.logs.open(path)))).unwrap();
        (writer, pumping)
    }

    fn finish(&self, pumping: Pumping) {
        let limit = Duration::from_secs(60);
        self.runtime.block_on(async { tokio::time::timeout(limit, pumping.finished()).await }).expect("the pump ends");
    }
}

fn output(reader: io::PipeReader, file: Option<Arc<LogFile>>) -> Output {
    Output { pipe: reader.into(), file, awaited: None, line_counter: None }
}

fn content(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

#[test]
fn the_last_output_of_a_process_that_is_gone_is_kept() {
    let fixture = Fixture::new();
    let path = fixture.path("deep/er/x.log");
    for round in 0..20 {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = std::process::Command::new("/bin/sh");
        let mut child =
            command.args(["-c", &format!("printf 'last words {round}'; exit 3")]).stdout(writer).spawn().unwrap();
        drop(command);
        child.wait().unwrap();
        let pumping = fixture.logs.pump(output(reader, Some(fixture.logs.open(&path)))).unwrap();
        fixture.finish(pumping);
    }
    let expected: String = (0..20).map(|round| format!("last words {round}")).collect();
    assert_eq!(String::from_utf8(content(&path)).unwrap(), expected);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0, "not for everyone");
}

#[test]
fn after_a_catch_up_the_file_has_all_that_was_printed() {
    let fixture = Fixture::new();
    let (path, other) = (fixture.path("x.log"), fixture.path("other.log"));
    let (mut writer, pumping) = fixture.pump(&path);
    let _silent = fixture.pump(&other);
    for round in 0..2000 {
        writeln!(writer, "line {round}").unwrap();
        let concerned = path.clone();
        fixture.runtime.block_on(fixture.logs.catch_up(move |path| path == concerned));
        let text = String::from_utf8(content(&path)).unwrap();
        assert_eq!(text.lines().last(), Some(&*format!("line {round}")));
    }
    drop(writer);
    fixture.finish(pumping);
    assert_eq!(content(&path).iter().filter(|byte| **byte == b'\n').count(), 2000, "and nothing twice");
}

#[test]
fn endless_lines_and_invalid_utf8_arrive_unchanged() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    let bytes: Vec<u8> = (0..10_000_000u32)
        .map(|n| match (n.wrapping_mul(2_654_435_761) >> 24) as u8 {
            b'\n' => 0xff,
            byte => byte,
        })
        .collect();
    writer.write_all(&bytes).unwrap();
    drop(writer);
    fixture.finish(pumping);
    assert!(content(&path) == bytes);
}

#[test]
fn a_prompt_is_in_the_file_before_its_line_ends() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(b"password: ").unwrap();
    eventually("the prompt", || content(&path) == b"password: ");
    drop(writer);
    fixture.finish(pumping);
}

#[test]
fn lines_of_many_writers_of_one_file_are_never_torn() {
    const WRITERS: usize = 8;
    const LINES: usize = 3_000;
    let fixture = Fixture::new();
    let path = fixture.path("merged.log");
    let mut threads = Vec::new();
    // All pipes are attached before the first byte comes: a file with one writer is written to without regard to lines.
    let (pipes, pumps): (Vec<_>, Vec<_>) = (0..WRITERS).map(|_| fixture.pump(&path)).unzip();
    for (writer, mut pipe) in pipes.into_iter().enumerate() {
        threads.push(std::thread::spawn(move || {
            let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(writer as u64 + 1);
            for number in 0..LINES {
                let filling = char::from(b'a' + writer as u8).to_string().repeat((state >> 40) as usize % 3_000);
                let line = format!("{writer} {number} {filling}\n");
                // Written in pieces, as unbuffered programs do.
                for piece in line.as_bytes().chunks((state >> 20) as usize % 700 + 40) {
                    pipe.write_all(piece).unwrap();
                }
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            }
            // The last line has no newline, and must not run into another writer's line.
            pipe.write_all(format!("{writer} {LINES} bye").as_bytes()).unwrap();
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    pumps.into_iter().for_each(|pumping| fixture.finish(pumping));
    let text = String::from_utf8(content(&path)).unwrap();
    let mut next: HashMap<usize, usize> = HashMap::new();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let writer: usize = words.next().unwrap().parse().unwrap();
        let number: usize = words.next().unwrap().parse().unwrap();
        let filling = words.next().unwrap();
        assert!(filling == "bye" || filling.bytes().all(|byte| byte == b'a' + writer as u8), "torn: {line:.60}");
        assert_eq!(number, *next.entry(writer).or_default(), "lost, doubled or out of order");
        *next.get_mut(&writer).unwrap() += 1;
    }
    assert!(next.len() == WRITERS && next.values().all(|count| *count == LINES + 1), "{next:?}");
}

#[test]
fn rotation_keeps_every_line_once_and_in_order() {
    const ROTATIONS: usize = 25;
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let producer = std::thread::spawn(move || {
        let mut number = 0u64;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            writeln!(writer, "line {number}").unwrap();
            number += 1;
        }
        number
    });
    for rotation in 0..ROTATIONS {
        eventually("new output", || !content(&path).is_empty());
        let old = fixture.path(&format!("x.log.{rotation}"));
        fs::rename(&path, &old).unwrap();
        fixture.runtime.block_on(fixture.logs.reopen_all());
        let length = fs::metadata(&old).unwrap().len();
        eventually("output in the new file", || !content(&path).is_empty());
        assert_eq!(fs::metadata(&old).unwrap().len(), length, "nothing is written to the old file after the reopening");
    }
    drop(stop);
    let count = producer.join().unwrap();
    fixture.finish(pumping);
    let mut all = Vec::new();
    for rotation in 0..ROTATIONS {
        all.extend(content(&fixture.path(&format!("x.log.{rotation}"))));
    }
    all.extend(content(&path));
    let expected: String = (0..count).map(|number| format!("line {number}\n")).collect();
    assert!(all == expected.as_bytes());
}

#[test]
fn output_after_a_folder_was_moved_goes_to_the_new_folder() {
    let fixture = Fixture::new();
    let (folder, moved) = (fixture.path("logs"), fixture.path("moved"));
    let path = folder.join("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(b"one\n").unwrap();
    fixture.runtime.block_on(fixture.logs.catch_up(|_| true));
    fs::rename(&folder, &moved).unwrap();
    fs::create_dir(&folder).unwrap();
    writer.write_all(b"two\n").unwrap();
    drop(writer);
    fixture.finish(pumping);
    assert_eq!([content(&moved.join("x.log")), content(&path)], [b"one\n", b"two\n"]);
}

#[test]
fn a_new_file_made_by_a_rotator_is_noticed_without_a_reopen() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(b"one\n").unwrap();
    eventually("the first line", || content(&path) == b"one\n");
    let old = fixture.path("x.log.1");
    fs::rename(&path, &old).unwrap();
    writer.write_all(b"two\n").unwrap();
    eventually("a half-done rotation to go on in the old file", || content(&old) == b"one\ntwo\n");
    assert!(!path.exists(), "making the new file is left to the rotator");
    fs::write(&path, "").unwrap();
    // The pump may still move bytes that it read before; with the next ones it finds the new file.
    let mut expected = b"one\ntwo\n".to_vec();
    eventually("output in the new file", || {
        writer.write_all(b"more\n").unwrap();
        expected.extend_from_slice(b"more\n");
        !content(&path).is_empty()
    });
    drop(writer);
    fixture.finish(pumping);
    assert_eq!([content(&old), content(&path)].concat(), expected);
}

#[test]
fn flush_empties_files_in_order_with_writes() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    for round in 0..50 {
        writeln!(writer, "before {round}").unwrap();
        eventually("the line", || content(&path).ends_with(format!("before {round}\n").as_bytes()));
        let paths = [path.clone(), fixture.path("never-there.log"), "/dev/null".into()];
        fixture.runtime.block_on(fixture.logs.flush(&paths)).unwrap();
        assert_eq!(content(&path), b"");
        writeln!(writer, "after {round}").unwrap();
        eventually("a whole line at the start", || content(&path) == format!("after {round}\n").as_bytes());
    }
    drop(writer);
    fixture.finish(pumping);
    let failed = fixture.runtime.block_on(fixture.logs.flush(&[fixture.folder.path().to_owned()])).unwrap_err();
    assert_eq!(failed.0, fixture.folder.path());
}

#[test]
fn a_deleted_folder_is_made_again() {
    let fixture = Fixture::new();
    let path = fixture.path("logs/x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(b"one\n").unwrap();
    // After this, the pump does nothing before the next output.
    fixture.runtime.block_on(fixture.logs.catch_up(|_| true));
    assert_eq!(content(&path), b"one\n");
    fs::remove_dir_all(fixture.path("logs")).unwrap();
    writer.write_all(b"two\n").unwrap();
    eventually("the second line", || content(&path) == b"two\n");
    drop(writer);
    fixture.finish(pumping);
}

#[test]
fn a_full_disk_stops_no_app_and_the_log_names_the_gap() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let (mut writer, pumping) = fixture.pump(&path);
    // Many times what a pipe holds: the writer would block for ever if the pump did not read.
    writer.write_all(&vec![b'x'; 1_000_000]).unwrap();
    writer.write_all(b"\n").unwrap();
    let probe = fixture.logs.open(&path);
    eventually("all of it dropped", || probe.lost() == 1_000_001);
    // Space again: the path is looked up anew.
    fs::remove_file(&path).unwrap();
    writer.write_all(b"on we go\n").unwrap();
    drop(writer);
    fixture.finish(pumping);
    let text = String::from_utf8(content(&path)).unwrap();
    assert_eq!(text, "[pmr] 1000001 bytes of output are missing here: the log could not be written\non we go\n");
}

#[test]
fn output_without_a_file_is_discarded() {
    let fixture = Fixture::new();
    let (reader, mut writer) = io::pipe().unwrap();
    let pumping = fixture.logs.pump(output(reader, None)).unwrap();
    writer.write_all(&vec![b'x'; 1_000_000]).unwrap();
    drop(writer);
    fixture.finish(pumping);
}

#[test]
fn a_log_file_that_hangs_stops_no_other_app() {
    let fixture = Fixture::new();
    let stuck = fixture.path("stuck");
    nix::unistd::mkfifo(&stuck, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Opening a FIFO for writing blocks until somebody reads it: a disk that hangs.
    let (mut victim, victim_pump) = fixture.pump(&stuck);
    victim.write_all(b"held up\n").unwrap();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(b"goes on\n").unwrap();
    eventually("the neighbour's line", || content(&path) == b"goes on\n");
    drop(writer);
    fixture.finish(pumping);
    drop(victim);
    assert_eq!(fs::read(&stuck).unwrap(), b"held up\n", "read once the reader is there");
    fixture.finish(victim_pump);
}

/// `cargo test --release --lib logs::tests::cpu_time_per_byte -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "its figures are its purpose")]
fn cpu_time_per_byte() {
    for (name, size, count) in [("64 KB writes", "64k", "1600"), ("100-byte lines", "100", "1000000")] {
        let fixture = Fixture::new();
        let path = fixture.path("x.log");
        let (reader, writer) = io::pipe().unwrap();
        let pumping = fixture.logs.pump(output(reader, Some(fixture.logs.open(&path)))).unwrap();
        let before = own_cpu();
        let start = std::time::Instant::now();
        let mut command = std::process::Command::new("dd");
        command.args(["if=/dev/zero", &format!("bs={size}"), &format!("count={count}"), "status=none"]).stdout(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        fixture.finish(pumping);
        let (wall, cpu) = (start.elapsed(), own_cpu() - before);
        child.wait().unwrap();
        let bytes = fs::metadata(&path).unwrap().len();
        println!("{name}: {bytes} bytes in {wall:?}, {:?} CPU per 100 MB", cpu.mul_f64(1e8 / bytes as f64));
    }
}

fn own_cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    of(usage.user_time()) + of(usage.system_time())
}
