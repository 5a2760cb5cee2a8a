//! The commands: one file each, with its arguments, its help and what it does.

pub mod completion;
pub mod delete;
pub mod demo;
pub mod describe;
pub mod doctor;
pub mod env;
pub mod explain;
pub mod flush;
pub mod get;
pub mod help;
pub mod history;
pub mod id;
pub mod jlist;
pub mod kill;
pub mod list;
pub mod log_files;
pub mod logs;
pub mod man;
pub mod pid;
pub mod ping;
pub mod reload;
pub mod reload_logs;
pub mod reset;
pub mod restart;
pub mod resurrect;
pub mod save;
pub mod scale;
pub mod set;
pub mod signal;
pub mod start;
pub mod startup;
pub mod stop;
pub mod unstartup;
pub mod update;

use super::app_flags::AppFlags;
use super::client::Client;
use super::config_file::is_config_file;
use super::failure::Failure;
use super::outcome::{self, Lengths, Outcome};
use super::{Context, apps, resolve};
use crate::protocol::{Action, Changes, Launch, Report};
use crate::spec::AppSpec;
use crate::spec::ecosystem::Options;
use crate::spec::target::Selector;

/// The commands by what they are for; stands in the help of `pmr` itself.
pub const OVERVIEW: &str = "\
First of all:
  demo         Show a cluster under load being scaled, reloaded and killed

Run apps:
  start        Start apps: a script, a program, a command line, a config file, or known ones
  restart      Stop and start processes
  reload       Replace processes one after another, without a gap
  stop         Stop processes and keep them in the list
  delete       Stop processes and forget them (del)
  scale        Change how many processes an app has
  sendSignal   Send a signal to processes
  reset        Set restart counters to zero

See what runs:
  list         Show the processes (ls, l, ps, status)
  describe     Show everything about processes (show, info, desc)
  explain      Tell why an app is as it is: its last ends, who asked for what, what comes next
  history      Show what happened to apps
  jlist        Show everything about all processes as JSON
  env          Show the environment of processes
  id, pid      Show ids, pids

Logs:
  logs         Show the last lines of log files, then what comes (log)
  flush        Empty log files
  reloadLogs   Open log files anew after a rotation

Keep and boot:
  save         Write down what runs (dump)
  resurrect    Start what ran before, or what was saved
  startup      Have the system start pmr at boot
  unstartup    Take that back

The daemon:
  ping         Tell whether it runs
  set, get     Change and show settings: autosave
  update       Let it go over to this version, with every app running on
  doctor       Tell what this machine lets pmr do, and what to do about the rest
  kill         Stop all apps and end it

Help:
  help         Show a page of the guide, or the help of a command
  man          Write manual pages into a folder
  completion   Print a completion script for a shell

Processes are named by id, app name, namespace, `all` or /regular expression/, several at once.
`pmr COMMAND --help` shows the options of a command, with examples; `pmr help` lists the topics of the guide.
PMR_HOME is the home of the daemon (~/.pmr).";

/// Stands in the help of `pmr logs`.
pub const LOGS_EXAMPLES: &str = "\
Examples:
  pmr logs
  pmr logs api --lines 100 --nostream
  pmr logs 0 3 --err --timestamp
  pmr logs PMR                        the daemon's own";

/// The selectors with config files replaced by the names of the apps in them.
pub fn named(selectors: Vec<Selector>) -> Result<Vec<Selector>, Failure> {
    let mut expanded = Vec::with_capacity(selectors.len());
    for selector in selectors {
        match &selector {
            Selector::Word(word) if is_config_file(word) => {
                expanded.extend(apps::names_in(word)?.into_iter().map(Selector::Word));
            }
            _ => expanded.push(selector),
        }
    }
    Ok(expanded)
}

/// The selectors, or `all` if there are none.
#[must_use]
pub fn or_all(selectors: Vec<Selector>) -> Vec<Selector> {
    if selectors.is_empty() { vec![Selector::All] } else { selectors }
}

/// What can be said about config files on start, restart and reload.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FileFlags {
    /// With a config file: only these of its apps, separated by commas
    #[arg(long, value_name = "NAMES")]
    pub only: Vec<String>,
    /// With a config file: merge the variables of `env_NAME`
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

impl FileFlags {
    /// Refuses `--only` and `--env` where no file was named: they would do nothing.
    pub fn check_unused(&self) -> Result<(), Failure> {
        if self.env.is_none() && self.only.is_empty() {
            return Ok(());
        }
        Err(Failure::new("--env and --only choose from a config file, and none was named")
            .hint("name the config file instead of the app; `--update-env` takes over this shell's environment"))
    }

    /// Which apps of a file are meant, with which variables.
    #[must_use]
    pub fn options(self) -> Options {
        Options { only: self.only, env_name: self.env }
    }
}

/// What restart and reload are asked with.
#[derive(clap::Args, Debug)]
pub struct Asked {
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

/// What restart and reload share: what was typed, told apart and worked out.
pub struct Revision {
    apps: Vec<AppSpec>,
    known: Vec<Selector>,
    changes: Changes,
}

impl Revision {
    /// Tells config files from selectors and reads the files. `--only` and `--env` without a file are refused: they
    /// would do nothing.
    pub fn new(asked: Asked) -> Result<Revision, Failure> {
        let Asked { selectors, mut flags, files, update_env, args } = asked;
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
        Ok(Revision { apps, known, changes: changes(flags, update_env)? })
    }

    /// Launches the apps of the files, acts on the known processes, and shows the list. Only apps are reason enough to
    /// start a daemon: without one nothing is known.
    pub async fn carry_out(
        self,
        how: Launch,
        action: impl FnOnce(Changes) -> Action,
        cx: &Context,
    ) -> Result<Outcome, Failure> {
        let client = if self.apps.is_empty() { cx.daemon().await? } else { cx.daemon_or_start().await? };
        warn_of(&self.apps, cx);
        let lengths = Lengths::now(&client.list().await?);
        let mut report = Report::default();
        if !self.apps.is_empty() {
            append(&mut report, client.launch(self.apps, how).await?);
        }
        if !self.known.is_empty() {
            append(&mut report, client.act(action(self.changes), self.known).await?);
        }
        outcome::conclude(&report, &client, &lengths, cx).await
    }
}

/// Says what of these apps' settings may not hold.
fn warn_of<'a>(apps: impl IntoIterator<Item = &'a AppSpec>, cx: &Context) {
    for app in apps {
        app.reservations().iter().for_each(|why| cx.ui.warn(&format!("{}: {why}", app.name)));
    }
}

/// Two reports as one.
fn append(report: &mut Report, more: Report) {
    report.lines.extend(more.lines);
    report.notes.extend(more.notes);
}

/// What flags, arguments behind `--` and `--update-env` change in an app that is known already.
pub fn changes(flags: AppFlags, update_env: bool) -> Result<Changes, Failure> {
    let base_env = if update_env { Some(resolve::Context::current()?.env) } else { None };
    Ok(Changes { settings: flags.settings, base_env })
}

/// Does something to processes and shows the list: what stop, delete, scale and the like come to.
pub async fn act_and_show(
    client: &Client,
    action: Action,
    target: Vec<Selector>,
    cx: &Context,
) -> Result<Outcome, Failure> {
    let report = client.act(action, target).await?;
    outcome::conclude(&report, client, &Lengths::default(), cx).await
}
