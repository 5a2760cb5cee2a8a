//! Shared by `restart` and `reload`: their arguments, split into config files and selectors, and one request to the
//! daemon for each of the two.

use super::app_flags::AppFlags;
use super::apps::{self, FileFlags};
use super::config_file::is_config_file;
use super::context::Context;
use super::failure::Failure;
use super::outcome::{self, LogLengths, Outcome};
use crate::protocol::{Action, Changes, Launch, Report};
use crate::spec::AppSpec;
use crate::spec::target::Selector;

/// The arguments of restart and reload.
#[derive(clap::Args, Debug)]
pub struct RevisionArgs {
    /// Ids, names, namespaces, `all`, /regular expressions/, config files
    #[arg(required = true, value_name = "PROCESS", value_parser = Selector::parse)]
    selectors: Vec<Selector>,
    #[command(flatten)]
    flags: AppFlags,
    #[command(flatten)]
    files: FileFlags,
    /// Take over the environment of this shell
    #[arg(short = 'a', long)]
    update_env: bool,
    /// Arguments of the app, in place of those it has
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// A restart or reload, resolved from its arguments: apps of config files, selectors of processes that the daemon has,
/// changes.
pub struct Revision {
    apps: Vec<AppSpec>,
    known: Vec<Selector>,
    changes: Changes,
}

impl Revision {
    /// Separates config files from selectors and reads the files. `--only` and `--env` without a file are refused: they
    /// would have no effect.
    pub fn new(args: RevisionArgs) -> Result<Revision, Failure> {
        let RevisionArgs { selectors, mut flags, files, update_env, args } = args;
        flags.set_args(args);
        let is_file = |selector: &Selector| matches!(selector, Selector::Word(word) if is_config_file(word));
        let (configs, known): (Vec<_>, Vec<_>) = selectors.into_iter().partition(is_file);
        if configs.is_empty() {
            files.check_unused()?;
        }
        let options = files.options();
        let mut apps = Vec::new();
        for config in &configs {
            apps.extend(apps::of_file(&config.text(), &options, &flags)?);
        }
        Ok(Revision { apps, known, changes: apps::changes(flags, update_env)? })
    }

    /// Launches the apps of the files, acts on the processes that the selectors name, and shows the list. Starts a
    /// daemon only for apps of files: without a daemon, selectors match nothing.
    pub async fn carry_out(
        self,
        how: Launch,
        action: impl FnOnce(Changes) -> Action,
        cx: &Context,
    ) -> Result<Outcome, Failure> {
        let client = if self.apps.is_empty() { cx.daemon().await? } else { cx.daemon_or_start().await? };
        apps::warn_of(&self.apps, cx);
        let lengths = LogLengths::now(&client.list().await?);
        let mut report = Report::default();
        if !self.apps.is_empty() {
            outcome::append(&mut report, client.launch(self.apps, how).await?);
        }
        if !self.known.is_empty() {
            outcome::append(&mut report, client.act(action(self.changes), self.known).await?);
        }
        outcome::conclude(&report, &client, &lengths, cx).await
    }
}
