//! Pumping processes are killed at any instant, while apps write as fast as they can. The next one gets the same pipes.
//! Afterwards each line is in the file once, whole and in order.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const KILLS: u32 = 40;
/// Variable with the path of the log. A test binary with it pumps its standard input (and its standard error, if `BOTH`
/// is set) into that file.
pub(super) const PATH: &str = "PMR_TEST_PUMP_INTO";
const BOTH: &str = "PMR_TEST_PUMP_BOTH";

/// What [`start`] runs. On its own it does nothing.
#[test]
#[ignore = "a part of other tests"]
fn pumping_process() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let logs = LogFiles::new(Threads::start("files", 512).unwrap()).unwrap();
        let output =
            |pipe: OwnedFd| Output { pipe, file: Some(logs.open(Path::new(&path))), awaited: None, line_counter: None };
        let mut outputs = vec![output(io::stdin().as_fd().try_clone_to_owned().unwrap())];
        if std::env::var_os(BOTH).is_some() {
            outputs.push(output(io::stderr().as_fd().try_clone_to_owned().unwrap()));
        }
        for pumping in logs.pump_all(outputs).unwrap() {
            pumping.finished().await;
        }
    });
}

/// A process that pumps one pipe or two into the file.
pub(super) fn start(path: &Path, pipes: &[io::PipeReader]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "logs::tests::kill::pumping_process", "--ignored", "--nocapture"]);
    command.env(PATH, path).stdin(pipes[0].try_clone().unwrap()).stdout(Stdio::null());
    if let Some(second) = pipes.get(1) {
        command.env(BOTH, "1").stderr(second.try_clone().unwrap());
    }
    command.spawn().unwrap()
}

/// A small generator of numbers that look random.
fn next_random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Writes numbered lines until `stop` is set; returns how many.
fn write_lines(writer: usize, mut pipe: impl Write, stop: &AtomicBool) -> usize {
    let mut random = writer as u64 + 1;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let longest = if next_random(&mut random).is_multiple_of(20) { 20_000 } else { 300 };
        let filling = char::from(b'a' + writer as u8).to_string().repeat(next_random(&mut random) % longest);
        pipe.write_all(format!("{writer} {number} {} {filling}\n", filling.len()).as_bytes()).unwrap();
        number += 1;
    }
    number
}

/// `writers` threads write to one file while the pumping process is killed again and again; checks that the file is
/// complete.
fn kill_pumps_of(writers: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    let (readers, pipes): (Vec<_>, Vec<_>) = (0..writers).map(|_| io::pipe().unwrap()).unzip();
    let stop = Arc::new(AtomicBool::new(false));
    let start_writer = |(writer, pipe)| {
        let stop = stop.clone();
        std::thread::spawn(move || write_lines(writer, pipe, &stop))
    };
    let threads: Vec<_> = pipes.into_iter().enumerate().map(start_writer).collect();
    let mut random = 42;
    for _ in 0..KILLS {
        let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let mut child = start(&path, &readers);
        eventually("new output", || fs::metadata(&path).is_ok_and(|metadata| metadata.len() > before));
        std::thread::sleep(Duration::from_micros(next_random(&mut random) as u64 % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut last = start(&path, &readers);
    let counts: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(last.wait().unwrap().success());
    check(&content(&path), &counts);
}

fn check(bytes: &[u8], counts: &[usize]) {
    let mut next = vec![0; counts.len()];
    for line in std::str::from_utf8(bytes).unwrap().lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let &[writer, number, length, filling] = &words[..] else { panic!("torn: {line:.60}") };
        let writer: usize = writer.parse().unwrap();
        let whole = filling.len().to_string() == length && filling.bytes().all(|byte| byte == b'a' + writer as u8);
        assert!(whole, "torn: {line:.60}");
        assert_eq!(number, next[writer].to_string(), "lost, doubled or out of order");
        next[writer] += 1;
    }
    assert_eq!(next, counts);
}

#[test]
fn a_file_of_one_writer_is_complete_after_its_pumps_were_killed() {
    kill_pumps_of(1);
}

#[test]
fn a_shared_file_is_complete_after_its_pumps_were_killed() {
    kill_pumps_of(2);
}
