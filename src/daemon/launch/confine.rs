//! From what an app's owner allows it to what the kernel is told when a process starts.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::os::cgroup::{Cgroup, Cgroups, Entry, Limits};
use crate::os::process::credentials::Credentials;
use crate::os::process::identity;
use crate::os::process::identity::Account;
use crate::os::process::spawn;
use crate::os::process::spawn::{Failure, Launch, Resource, Rlimit, Spawned, Step};
use crate::protocol::Run;
use crate::spec::{Confinement, Env};

/// What one run is started with.
pub(crate) struct Confined<'a> {
    /// All its processes, if there are groups on this machine.
    pub group: Option<Cgroup>,
    rules: &'a Confinement,
    entry: Option<Entry>,
    rlimits: [Rlimit; 1],
    account: Option<Account>,
}

impl<'a> Confined<'a> {
    /// Makes the group of the run and finds out who its user is.
    ///
    /// # Errors
    /// In words: what the owner asked for and cannot have here. `NotFound` and `Unsupported` will be so next time, too.
    pub fn new(cgroups: &Cgroups, files: (u64, u64), run: Run, rules: &'a Confinement) -> io::Result<Confined<'a>> {
        let account = identity::account(rules.user.as_deref(), rules.group.as_deref())?;
        let limits = Limits { memory: rules.memory, cpu: rules.cpu, pids: rules.pids };
        let group =
            cgroups.create(run.0, &limits).map_err(|refused| io::Error::new(io::ErrorKind::Unsupported, refused))?;
        let entry = match group.as_ref().map(Cgroup::entry) {
            Some(Err(error)) if limits != Limits::default() => {
                return Err(io::Error::other(format!("its control group: {error}")));
            }
            entry => entry.and_then(Result::ok),
        };
        Ok(Confined { group, rules, entry, rlimits: rlimits(rules, files), account })
    }

    /// Whom it is started as, if not as who we are.
    pub fn user(&self) -> Option<&Credentials> {
        self.account.as_ref().map(|account| &account.credentials)
    }

    /// Whose home and name it is, unless the owner declared them.
    pub fn tell(&self, env: &mut Vec<String>, declared: &Env) {
        tell(self.account.as_ref(), env, declared);
    }

    /// What a Node worker is to load, where its user can read it; `own` for our own.
    pub fn preload(&self, own: PathBuf) -> PathBuf {
        // Where that cannot be written, nobody else can be started either, and that failure says more.
        if self.account.is_some() { super::super::boot::home_dir::install_public_preload().unwrap_or(own) } else { own }
    }

    /// Lets another user open its output once more by `/dev/stdout`. If that fails, few miss it.
    pub fn give(&self, pipes: &[BorrowedFd<'_>]) {
        if let Some(account) = &self.account {
            pipes.iter().for_each(|pipe| drop(identity::give(pipe, &account.credentials)));
        }
    }

    /// Starts it so. A group that cannot be entered is done without, unless it holds a limit.
    pub fn spawn(&mut self, launch: &Launch<'_>) -> Result<Spawned, Failure> {
        let started = self.try_spawn(launch);
        let limited = self.rules.memory.is_some() || self.rules.cpu.is_some() || self.rules.pids.is_some();
        match started {
            Err(failure)
                if matches!(failure.step, Step::Clone | Step::Cgroup)
                    && !is_shortage(&failure.error)
                    && self.entry.is_some()
                    && !limited =>
            {
                tracing::warn!("a process is started without its control group: {failure}");
                (self.entry, self.group) = (None, None);
                self.try_spawn(launch)
            }
            started => started,
        }
    }

    fn try_spawn(&self, launch: &Launch<'_>) -> Result<Spawned, Failure> {
        let procs = self.entry.as_ref().map(Entry::procs).unwrap_or_default();
        let confinement = spawn::Confinement {
            cgroup: self.entry.as_ref().and_then(Entry::folder),
            cgroup_procs: &procs,
            rlimits: &self.rlimits,
            credentials: self.account.as_ref().map(|account| &account.credentials),
            no_new_privs: self.rules.no_new_privs,
            read_only: &self.rules.read_only_paths,
            private_tmp: self.rules.private_tmp,
            ..launch.confinement
        };
        spawn::spawn(&Launch { confinement, ..*launch })
    }
}

/// Whose home and name a process has, unless the owner declared them.
pub(crate) fn tell(account: Option<&Account>, env: &mut Vec<String>, declared: &Env) {
    let Some(account) = account else { return };
    for (name, value) in account.variables().filter(|(name, _)| !declared.contains_key(*name)) {
        env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
        env.push(format!("{name}={value}"));
    }
}

/// What the kernel keeps for each process; `files` is the open-file limit of those whose owner says nothing.
pub(crate) fn rlimits(rules: &Confinement, files: (u64, u64)) -> [Rlimit; 1] {
    let (soft, hard) = rules.nofile.map_or(files, |limit| (u64::from(limit), u64::from(limit)));
    [Rlimit { resource: Resource::Nofile, soft, hard }]
}

/// Of processes or memory: without a group it would be no better.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}
