//! `start`: resolves its arguments, then sends one request for each kind.
//!
//! A config file starts its apps; a selector of known processes starts these again; everything else is a script, a
//! program or a command line to run. All arguments are resolved before anything is started.

use std::path::Path;

use crate::cli::app_flags::AppFlags;
use crate::cli::apps::{self, FileFlags};
use crate::cli::client::Client;
use crate::cli::config_file::{find_default, is_config_file};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::outcome::{self, LogLengths, Outcome};
use crate::cli::selectors::matching;

use crate::protocol::{Action, Launch, ProcessInfo, Report};
use crate::spec::AppSpec;
use crate::spec::ecosystem::Options;
use crate::spec::target::Selector;

/// Start apps: scripts, programs, command lines, config files, or known apps that are stopped
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pmr start app.js                         with the interpreter of its file type\n  \
                        pmr start app.js -i max                  one worker for each processor, one port\n  \
                        pmr start server.py --name web -- --port 8000\n  \
                        pmr start \"npm run serve\"\n  \
                        pmr start ecosystem.config.js --only api --env production\n  \
                        pmr start api.js --depends-on db:healthy after another app is healthy\n  \
                        pmr start api                            a known app again\n  \
                        pmr start                                the ecosystem.config.* of this folder"
)]
pub struct Args {
    /// Scripts, programs, quoted command lines, config files, or ids, names and namespaces of known apps
    #[arg(value_name = "WHAT")]
    targets: Vec<String>,
    #[command(flatten)]
    flags: AppFlags,
    #[command(flatten)]
    files: FileFlags,
    /// For known apps: take over the environment of this shell
    #[arg(short = 'a', long)]
    update_env: bool,
    /// Arguments of the app
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// A resolved argument.
enum StartTarget {
    Known(Selector),
    File(Vec<AppSpec>),
    New(Box<AppSpec>),
}

/// All arguments, by kind.
#[derive(Default)]
struct Plan {
    files: Vec<AppSpec>,
    known: Vec<Selector>,
    new: Vec<AppSpec>,
}

/// Runs the command. The outcome decides the exit code.
pub async fn run(mut args: Args, cx: &Context) -> Result<Outcome, Failure> {
    if args.targets.is_empty() {
        args.targets.push(config_in(Path::new("."))?);
    }
    let running = cx.daemon_if_any().await?.map(Client::or_start);
    let processes = match &running {
        Some(client) => client.list().await?,
        None => Vec::new(),
    };
    args.flags.set_args(std::mem::take(&mut args.args));
    if !args.targets.iter().any(|word| is_config_file(word)) {
        args.files.check_unused()?;
    }
    let options = args.files.options();
    let mut plan = Plan::default();
    for word in &args.targets {
        plan.add(resolve(word, &args.flags, &options, &processes)?);
    }
    let client = match running {
        Some(client) => client,
        None => cx.daemon_or_start().await?,
    };
    apps::warn_of(plan.files.iter().chain(&plan.new), cx);
    let lengths = LogLengths::now(&processes);
    let mut report = Report::default();
    if !plan.files.is_empty() {
        outcome::append(&mut report, client.launch(plan.files, Launch::OrRestart).await?);
    }
    if !plan.known.is_empty() {
        let action = Action::Start(apps::changes(args.flags, args.update_env)?);
        outcome::append(&mut report, client.act(action, plan.known).await?);
    }
    if !plan.new.is_empty() {
        outcome::append(&mut report, client.launch(plan.new, Launch::New).await?);
    }
    outcome::conclude(&report, &client, &lengths, cx).await
}

impl Plan {
    fn add(&mut self, target: StartTarget) {
        match target {
            StartTarget::Known(selector) => self.known.push(selector),
            StartTarget::File(apps) => self.files.extend(apps),
            StartTarget::New(app) => self.new.push(*app),
        }
    }
}

fn resolve(word: &str, flags: &AppFlags, options: &Options, processes: &[ProcessInfo]) -> Result<StartTarget, Failure> {
    if is_config_file(word) {
        return apps::of_file(word, options, flags).map(StartTarget::File);
    }
    if let Some(selector) = known_selector(word, processes, Path::new(word).is_file()) {
        return Ok(StartTarget::Known(selector));
    }
    apps::of_script(word, flags).map(|app| StartTarget::New(Box::new(app)))
}

/// The argument as a selector, if it is one: `all`, an id, a pattern that matches, or the name or namespace of a known
/// process. A file in the current folder wins over a name with a dot: `start app.js` means the script.
fn known_selector(word: &str, processes: &[ProcessInfo], is_file: bool) -> Option<Selector> {
    let selector = Selector::parse(word).ok()?;
    if selector == Selector::All || word.parse::<u32>().is_ok() {
        return Some(selector);
    }
    if is_file && word.contains(['.', '/']) {
        return None;
    }
    (!matching(processes, std::slice::from_ref(&selector)).is_empty()).then_some(selector)
}

fn config_in(folder: &Path) -> Result<String, Failure> {
    let found = find_default(folder).and_then(|path| path.file_name()?.to_str().map(str::to_owned));
    found.ok_or_else(|| {
        Failure::new("nothing to start was named, and there is no ecosystem.config.js (or .json, .yaml, .toml …) here")
            .hint("`pmr start app.js` starts a script; `pmr start --help` shows more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::sample;

    #[test]
    fn known_names_and_patterns_are_selectors_and_files_are_not() {
        let processes = [sample::info()];
        let named = |word, is_file| known_selector(word, &processes, is_file).is_some();
        assert!(named("api", false) && named("default", false) && named("all", false) && named("77", false));
        assert!(named("api", true), "a name wins over a file without a dot");
        assert!(named("/^ap/", false) && !named("/usr/bin/", false));
        assert!(!named("app.js", true) && !named("./api", true) && !named("other", false));
    }

    #[test]
    fn the_config_file_of_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert!(config_in(folder.path()).unwrap_err().hint.is_some());
        std::fs::write(folder.path().join("ecosystem.config.toml"), "").unwrap();
        std::fs::write(folder.path().join("ecosystem.config.cjs"), "").unwrap();
        assert_eq!(config_in(folder.path()).unwrap(), "ecosystem.config.cjs");
    }
}
