//! Adoption of processes whose daemon and keeper have both died. They are found by the journal, by pid and start time, so
//! that no second copy is started.
//!
//! The open files of the daemon are lost in that case. A program that needs one of them (a Node worker needs its channel)
//! ends by itself and is restarted as its exit policy says. A program that writes to its output would be killed by
//! SIGPIPE, since the pipe has no reader any more: the pipe is opened anew, which the kernel allows as long as the
//! program has its end open.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use super::super::disk::journal;
use super::super::launch::output::output_names;
use super::super::runs::table;
use super::super::upgrade;
use crate::keeper::{Inherited, Previous, Records, UpgradeProbation};
use crate::os::clock;
use crate::os::process::tree;
use crate::paths::Home;
use crate::protocol::Run;

/// If the keeper passed on no state of an earlier daemon: fills `inherited` from the journal, provided that the journal
/// was written in this boot and at least one process in it is alive.
pub fn inherit(home: &Home, inherited: &mut Inherited) {
    if inherited.previous.is_some() {
        return;
    }
    let records = journal::of_this_boot(&home.journal());
    let survivors = survivors(&records);
    if survivors.is_empty() {
        return;
    }
    if let Err(error) = upgrade::read(&records) {
        tracing::error!("{} processes of a daemon that died are not taken over: {error}", survivors.len());
        return;
    }
    inherited.files = survivors.iter().flat_map(|(run, live)| outputs(*run, live)).collect();
    inherited.records = records;
    inherited.previous = Some(Previous { ended: None, at: clock::monotonic_ms(), probation: UpgradeProbation::None });
}

/// The runs whose main process is alive.
fn survivors(records: &Records) -> Vec<(Run, table::LiveRun)> {
    let runs = records.iter().filter_map(|(key, json)| {
        let run = Run(key.strip_prefix(table::KEY)?.parse().ok()?);
        Some((run, serde_json::from_str::<table::Record>(json).ok()?.live))
    });
    runs.filter(|(_, live)| live.stat().is_some_and(|stat| !stat.is_zombie())).collect()
}

/// The read ends of the pipes a run writes to, by the names they are kept under in the ledger.
fn outputs(run: Run, live: &table::LiveRun) -> HashMap<String, OwnedFd> {
    let streams = output_names(run).into_iter().zip([1, 2]).zip(live.pipes);
    streams.filter_map(|((name, number), inode)| Some((name, reopen(live.pid, number, inode)?))).collect()
}

/// Opens the pipe behind this descriptor of the process for reading. `None` if it is not the pipe that pmr gave to the
/// process, whose inode is `inode`.
fn reopen(pid: i32, number: u32, inode: u64) -> Option<OwnedFd> {
    let path = format!("/proc/{pid}/fd/{number}");
    let pipe: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()?;
    (tree::pipe_inode(&pipe).ok() == Some(inode)).then(|| pipe.into())
}
