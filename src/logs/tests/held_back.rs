//! Beginnings of lines that wait in their pipe, because several pipes share a file.

use rustix::fs::OFlags;

use super::*;

/// User and system time of a process, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_line_that_is_held_back_costs_no_cpu_and_is_written_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    let (readers, mut pipes): (Vec<_>, Vec<_>) = (0..2).map(|_| io::pipe().unwrap()).unzip();
    // A process of its own, so that its CPU time can be measured.
    let mut child = kill::start(&path, &readers);
    pipes[0].write_all(b"whole\nbegin").unwrap();
    eventually("the whole line", || content(&path) == b"whole\n");
    let before = ticks(child.id());
    std::thread::sleep(Duration::from_millis(400));
    let spent = ticks(child.id()) - before;
    assert!(spent <= 8, "{spent} ticks of 40 for waiting");
    pipes[1].write_all(b"other\n").unwrap();
    eventually("the other's line", || content(&path) == b"whole\nother\n");
    pipes[0].write_all(b" end\nlast").unwrap();
    eventually("the line", || content(&path) == b"whole\nother\nbegin end\n");
    pipes.remove(0);
    eventually("the rest at the end", || content(&path) == b"whole\nother\nbegin end\nlast\n");
    pipes.clear();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_line_longer_than_its_pipe_stops_no_app() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (other, other_pump) = fixture.pump(&path);
    for size in [None, Some(4096), Some(8192), Some(1 << 20)] {
        let (mut writer, pumping) = fixture.pump(&path);
        if let Some(size) = size {
            rustix::pipe::fcntl_setpipe_size(&writer, size).unwrap();
        }
        writer.write_all(&vec![b'x'; 3_000_000]).unwrap();
        drop(writer);
        fixture.finish(pumping);
        assert!(content(&path) == [vec![b'x'; 3_000_000], vec![b'\n']].concat(), "with a pipe of {size:?}");
        fixture.runtime.block_on(fixture.logs.flush(std::slice::from_ref(&path))).unwrap();
    }
    drop(other);
    fixture.finish(other_pump);
}

#[test]
fn tiny_packets_that_fill_a_pipe_stop_no_app() {
    let fixture = Fixture::new();
    let path = fixture.path("x.log");
    let (other, other_pump) = fixture.pump(&path);
    let (mut writer, pumping) = fixture.pump(&path);
    rustix::fs::fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
    for _ in 0..1_000 {
        assert_eq!(writer.write(b"xy").unwrap(), 2);
    }
    drop(writer);
    fixture.finish(pumping);
    assert_eq!(content(&path), [b"xy".repeat(1_000), vec![b'\n']].concat());
    drop(other);
    fixture.finish(other_pump);
}
