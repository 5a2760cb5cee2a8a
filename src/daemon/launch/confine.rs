//! Applies the confinement in an app's spec when a process starts: user, limits, control group, mount namespace.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::super::disk::home_dir;
use crate::os::cgroup::{Cgroup, Cgroups, Entry, Limits};
use crate::os::process::credentials::Credentials;
use crate::os::process::identity;
use crate::os::process::identity::Account;
use crate::os::process::spawn;
use crate::os::process::spawn::{Failure, Launch, Resource, Rlimit, Spawned, Step};
use crate::protocol::Run;
use crate::spec::{Confinement, Env};

/// The confinement one run is started with.
pub(crate) struct Confined<'a> {
    /// The control group of the run, if there are groups on this machine.
    pub group: Option<Cgroup>,
    rules: &'a Confinement,
    entry: Option<Entry>,
    rlimits: [Rlimit; 1],
    account: Option<Account>,
}

impl<'a> Confined<'a> {
    /// Makes the group of the run and looks up its user. `files` is the daemon's open-file limit (soft, hard).
    ///
    /// # Errors
    /// In words: what the spec demands and this machine cannot do. `NotFound` and `Unsupported` are permanent.
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

    /// The user it is started as, if it is another than the daemon's.
    pub fn user(&self) -> Option<&Credentials> {
        self.account.as_ref().map(|account| &account.credentials)
    }

    /// See [`set_account_variables`].
    pub fn set_account_variables(&self, env: &mut Vec<String>, declared: &Env) {
        set_account_variables(self.account.as_ref(), env, declared);
    }

    /// The file a Node worker is to load, where its user can read it; `own` for the daemon's user.
    pub fn preload(&self, own: PathBuf) -> PathBuf {
        // If that cannot be written, another user's process cannot be started either, and that error explains more.
        if self.account.is_some() { home_dir::install_public_preload().unwrap_or(own) } else { own }
    }

    /// Lets another user open its output once more by `/dev/stdout`. Few programs do, so a failure is ignored.
    pub fn give(&self, pipes: &[BorrowedFd<'_>]) {
        if let Some(account) = &self.account {
            pipes.iter().for_each(|pipe| drop(identity::give(pipe, &account.credentials)));
        }
    }

    /// Starts the process. If its control group cannot be entered, it is started without, unless the group has a limit.
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

/// Sets `HOME`, `USER` and `LOGNAME` to the account's, unless the owner declared them.
pub(crate) fn set_account_variables(account: Option<&Account>, env: &mut Vec<String>, declared: &Env) {
    let Some(account) = account else { return };
    for (name, value) in account.variables().filter(|(name, _)| !declared.contains_key(*name)) {
        env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
        env.push(format!("{name}={value}"));
    }
}

/// The limits of one process; `files` is the open-file limit (soft, hard) where the spec has none.
pub(crate) fn rlimits(rules: &Confinement, files: (u64, u64)) -> [Rlimit; 1] {
    let (soft, hard) = rules.nofile.map_or(files, |limit| (u64::from(limit), u64::from(limit)));
    [Rlimit { resource: Resource::Nofile, soft, hard }]
}

/// True if processes or memory are short: a start without the group would fail, too.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}
