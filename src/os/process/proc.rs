//! One sweep over `/proc`: parent, processor time and memory of every process.

use std::collections::HashMap;
use std::fs;

/// What the kernel tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its state as one letter: `R`, `S`, `D` (waits and cannot be killed), `T` (stopped by a signal), `Z`, …
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// It is on its way out, or has ended.
    pub parting: bool,
    /// Processor time of it and of the children it waited for, in clock ticks.
    pub ticks: u64,
    /// When it started, in clock ticks since boot: with the pid it names a process for certain.
    pub start: u64,
    /// Resident memory, in bytes.
    pub resident: u64,
}

impl Stat {
    /// True if it has ended and waits to be reaped.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The flag of a process on its way out (`include/linux/sched.h`).
const PF_EXITING: u64 = 4;

/// Clock ticks per second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// The process, if it exists.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// True if the kernel lets this thread bind to this port: one that is not privileged, or `CAP_NET_BIND_SERVICE` is had.
/// For those who bind in its place with more rights than it has.
#[must_use]
pub fn may_bind(thread: i32, port: u16) -> bool {
    const NET_BIND_SERVICE: u32 = 10;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    port == 0 || port >= first_free || has_capability(thread, NET_BIND_SERVICE)
}

/// Whether a thread has this capability, by its number in `linux/capability.h`, in effect.
#[must_use]
pub fn has_capability(thread: i32, number: u32) -> bool {
    let capable = || {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let hexadecimal = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        Some(u64::from_str_radix(hexadecimal.trim(), 16).ok()? >> number & 1 == 1)
    };
    capable().unwrap_or(false)
}

/// What a process was started with, in one line.
#[must_use]
pub fn command_line(pid: i32) -> Option<String> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&words);
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

/// Every process there is.
#[must_use]
pub fn sweep() -> HashMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    entries.flatten().filter_map(pid).filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// Adds up each root's tree: ticks and resident bytes by root. A process belongs to the nearest root above it.
#[must_use]
pub fn usage(roots: &[i32]) -> HashMap<i32, (u64, u64)> {
    let table = sweep();
    let mut sums: HashMap<i32, (u64, u64)> = roots.iter().map(|root| (*root, (0, 0))).collect();
    for (pid, stat) in &table {
        if let Some(root) = root_of(*pid, &table, &sums)
            && let Some(sum) = sums.get_mut(&root)
        {
            sum.0 += stat.ticks;
            sum.1 += stat.resident;
        }
    }
    sums
}

fn root_of(pid: i32, table: &HashMap<i32, Stat>, roots: &HashMap<i32, (u64, u64)>) -> Option<i32> {
    let mut at = pid;
    // The sweep is no snapshot, so parents could seem to form a ring: a tree is never this deep.
    for _ in 0..256 {
        if roots.contains_key(&at) {
            return Some(at);
        }
        at = table.get(&at)?.parent;
    }
    None
}

/// Reads a line of `/proc/PID/stat`. The name in it may hold anything, spaces and brackets included, so fields are
/// counted from the last bracket.
fn parse(line: &[u8]) -> Option<Stat> {
    let after_name = line.iter().rposition(|byte| *byte == b')')? + 2;
    let text = std::str::from_utf8(line.get(after_name..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        parting: number(6)? & PF_EXITING != 0,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        start: number(19)?,
        resident: number(21)? * rustix::param::page_size() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_find_ourselves_and_our_own_sum() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat = stat(own).unwrap();
        assert!(stat.resident > 100_000 && stat.start > 0 && stat.parent > 0);
        let (_, resident) = usage(&[own])[&own];
        assert!(resident >= stat.resident / 2);
    }

    #[test]
    fn names_with_brackets_and_spaces_do_not_shift_the_fields() {
        let line = b"7 (a) b (c)) S 1 7 5 0 -1 4194560 1 0 0 0 10 20 3 4 20 0 1 0 999 1000 50 1844";
        let stat = parse(line).unwrap();
        assert_eq!(stat.state, 'S');
        assert_eq!((stat.parent, stat.session, stat.ticks, stat.start), (1, 5, 37, 999));
        assert!(!stat.parting);
        let line = b"7 (a) R 1 7 5 0 -1 4194564 1 0 0 0 10 20 3 4 20 0 1 0 999 1000 50 1844";
        assert!(parse(line).unwrap().parting);
        assert_eq!(parse(b"garbage"), None);
    }
}
