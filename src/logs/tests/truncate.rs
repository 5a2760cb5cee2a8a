//! Files that are truncated or fill their disk while they are written to.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn truncation_from_outside_leaves_no_gap_of_zeros() {
    const TRUNCATIONS: usize = 300;
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let producer = std::thread::spawn(move || {
        let mut number = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            writeln!(writer, "line {number} {}", "x".repeat(1_000)).unwrap();
            number += 1;
        }
        number
    });
    for _ in 0..TRUNCATIONS {
        eventually("new output", || fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 10_000));
        eventually("a file without zeros", || !content(&path).contains(&0));
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let count = producer.join().unwrap();
    fixture.finish(pumping);
    let text = String::from_utf8(content(&path)).unwrap();
    assert!(!text.contains('\0'));
    // Bytes before the truncation are gone; all bytes after it are whole.
    let numbers: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("line ")?.split(' ').next()?.parse().ok()).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "lost, doubled or out of order");
    assert!(numbers.last().is_none_or(|last| last + 1 == count));
}

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: PathBuf) -> Option<SmallDisk> {
        fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "pmr-test"]).arg(&folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn bytes_for_a_full_disk_are_dropped_and_counted() {
    let fixture = Fixture::new();
    let Some(disk) = SmallDisk::mount(fixture.path("disk")) else {
        writeln!(io::stderr(), "skipped: this system lets us mount nothing").unwrap();
        return;
    };
    let path = disk.0.join("x.log");
    let (mut writer, pumping) = fixture.pump(&path);
    writer.write_all(&b"0123456789abcde\n".repeat(1 << 16)).unwrap();
    let probe = fixture.logs.open(&path);
    let written = || fs::metadata(&path).map_or(0, |metadata| metadata.len());
    eventually("each byte written or counted", || written() + probe.lost() == 1 << 20);
    let lost = probe.lost();
    assert!(lost >= (1 << 20) - (256 << 10) && written() > 0, "{lost} lost");
    assert!(content(&path) == b"0123456789abcde\n".repeat(1 << 14)[..written() as usize]);
    fixture.runtime.block_on(fixture.logs.flush(std::slice::from_ref(&path))).unwrap();
    writer.write_all(b"on we go\n").unwrap();
    drop(writer);
    fixture.finish(pumping);
    let text = String::from_utf8(content(&path)).unwrap();
    assert_eq!(
        text,
        format!("[pmr] {lost} bytes of output are missing here: the log could not be written\non we go\n")
    );
}
