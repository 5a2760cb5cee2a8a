//! Information on processes from `/proc`: parent, processor time, memory, capabilities.

use std::collections::HashMap;
use std::fs;

/// The fields of `/proc/PID/stat` that pmr uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its state, a letter: `R`, `S`, `D` (waits and cannot be killed), `T` (stopped by a signal), `Z`, …
    pub state: char,
    /// Pid of its parent.
    pub parent: i32,
    /// Id of its session.
    pub session: i32,
    /// True if it is exiting or has ended.
    pub exiting: bool,
    /// Processor time of it and of the children that it has reaped, in clock ticks.
    pub ticks: u64,
    /// When it started, in clock ticks since boot. Pid and start time together identify a process.
    pub start: u64,
    /// Resident memory, in bytes.
    pub resident: u64,
}

impl Stat {
    /// True if it has ended and has not been reaped.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The flag of a process that is exiting (`include/linux/sched.h`).
const PF_EXITING: u64 = 4;

/// Clock ticks per second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Reads `/proc/PID/stat`. `None` if there is no such process.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// True if the kernel allows this thread to bind to this port: the port is not privileged, or the thread has
/// `CAP_NET_BIND_SERVICE`. To be checked before the daemon, with more rights, binds in its place.
#[must_use]
pub fn may_bind(thread: i32, port: u16) -> bool {
    const NET_BIND_SERVICE: u32 = 10;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    port == 0 || port >= first_free || has_capability(thread, NET_BIND_SERVICE)
}

/// True if this capability, by its number in `linux/capability.h`, is effective in the thread.
#[must_use]
pub fn has_capability(thread: i32, number: u32) -> bool {
    let capable = || {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let hexadecimal = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        Some(u64::from_str_radix(hexadecimal.trim(), 16).ok()? >> number & 1 == 1)
    };
    capable().unwrap_or(false)
}

/// The command line of a process, with spaces between the arguments.
#[must_use]
pub fn command_line(pid: i32) -> Option<String> {
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&words);
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

/// All processes, by pid.
#[must_use]
pub fn sweep() -> HashMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    entries.flatten().filter_map(pid).filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The sums of ticks and of resident bytes for the process tree of each root. A process counts for its nearest root.
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
    // The sweep is no snapshot, so parents may seem to form a ring. No tree is this deep.
    for _ in 0..256 {
        if roots.contains_key(&at) {
            return Some(at);
        }
        at = table.get(&at)?.parent;
    }
    None
}

/// Reads a line of `/proc/PID/stat`. The name in it may contain any characters, spaces and brackets included, so fields
/// are counted from the last bracket.
fn parse(line: &[u8]) -> Option<Stat> {
    let after_name = line.iter().rposition(|byte| *byte == b')')? + 2;
    let text = std::str::from_utf8(line.get(after_name..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        exiting: number(6)? & PF_EXITING != 0,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        start: number(19)?,
        resident: number(21)? * rustix::param::page_size() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_finds_itself_and_the_usage_of_its_tree() {
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
        assert!(!stat.exiting);
        let line = b"7 (a) R 1 7 5 0 -1 4194564 1 0 0 0 10 20 3 4 20 0 1 0 999 1000 50 1844";
        assert!(parse(line).unwrap().exiting);
        assert_eq!(parse(b"garbage"), None);
    }
}
