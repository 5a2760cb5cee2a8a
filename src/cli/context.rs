//! [`Context`]: the home, the output and the start time, passed to every command.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Uid, User};

use super::client::Client;
use super::failure::Failure;
use super::ui::Ui;
use super::view::history::Names;
use crate::paths::Home;

/// Passed to every command.
#[derive(Clone, Debug)]
pub struct Context {
    /// The home of the daemon that the command addresses: `PMR_HOME`, else `~/.pmr`.
    pub home: Home,
    /// Standard output and standard error, with colour and `--silent` applied.
    pub ui: Ui,
    /// When the command was started. Older lines in log files do not belong to it.
    pub started: SystemTime,
}

impl Context {
    /// Connects to the daemon, which must be running.
    pub async fn daemon(&self) -> Result<Client, Failure> {
        Client::connect(&self.home, self.ui).await
    }

    /// Connects to the daemon, if it is running.
    pub async fn daemon_if_any(&self) -> Result<Option<Client>, Failure> {
        Client::find(&self.home, self.ui).await
    }

    /// Connects to the daemon, and starts it first if it is not running.
    pub async fn daemon_or_start(&self) -> Result<Client, Failure> {
        Client::connect_or_start(&self.home, self.ui).await
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time zone and the user names of this machine, for views that show times and users.
    #[must_use]
    pub fn local_names(&self) -> Names<'static> {
        Names { zone: jiff::tz::TimeZone::system(), user: &user_name }
    }
}

fn user_name(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("user {uid}"), |user| user.name)
}
