//! The command line: parses the arguments, sends requests to the daemon, and puts the answers into words.
//!
//! The command line is thin: decisions are made in the daemon. One file for each command in [`commands`], values → text
//! in [`view`], standard output and error in [`ui`] only. No command starts threads, sets up tracing or reads files
//! before it sends its request: it should cost about as much as starting a process does.

pub mod app_flags;
pub mod apps;
pub mod client;
pub mod commands;
pub mod config_file;
pub mod context;
pub mod demo;
pub mod events_on_disk;
pub mod failure;
pub mod foreground;
pub mod home;
pub mod last_lines;
pub mod outcome;
pub mod pager;
pub mod pm2_gaps;
pub mod resolve;
pub mod revision;
pub mod selectors;
pub mod shutdown;
pub mod ui;
pub mod view;
pub mod whole_number;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use self::commands::{
    completion, delete, describe, doctor, env, explain, flush, get, help, history, id, jlist, kill, list, logs, man,
    pid, ping, reload, reload_logs, reset, restart, resurrect, save, scale, set, signal, start, startup, stop,
    unstartup, update,
};
use self::context::Context;
use self::failure::Failure;
use self::outcome::Outcome;
use self::ui::Ui;

/// Runs and supervises apps: several processes on one port, restarts, reloads without a lost request, logs.
#[derive(Parser)]
#[command(
    name = "pmr",
    disable_version_flag = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    help_template = "{about}\n\n{usage-heading} {usage}\n{after-help}\n\nOptions:\n{options}",
    after_help = commands::OVERVIEW,
)]
pub struct Cli {
    /// Print only requested data and errors
    #[arg(short, long, global = true)]
    silent: bool,
    /// No colours (also with NO_COLOR set)
    #[arg(long, global = true)]
    no_color: bool,
    /// Run the daemon in this process, run this command beside it, and follow the logs; Ctrl-C stops everything
    #[arg(long, global = true)]
    no_daemon: bool,
    /// Print the version
    #[arg(short = 'v', long, visible_short_alias = 'V', action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(version = crate::protocol::VERSION, subcommand_required = true)]
enum Command {
    Start(Box<start::Args>),
    Stop(stop::Args),
    Restart(Box<restart::Args>),
    Reload(Box<reload::Args>),
    #[command(visible_alias = "del")]
    Delete(delete::Args),
    Scale(scale::Args),
    Reset(reset::Args),
    #[command(name = "sendSignal", aliases = ["sendsignal", "send-signal", "signal"])]
    SendSignal(signal::Args),
    #[command(visible_aliases = ["ls", "l", "ps", "status"])]
    List(list::Args),
    Jlist(jlist::Args),
    #[command(visible_aliases = ["show", "info", "desc"])]
    Describe(describe::Args),
    Doctor(doctor::Args),
    Explain(explain::Args),
    History(history::Args),
    Id(id::Args),
    Pid(pid::Args),
    Env(env::Args),
    #[command(visible_alias = "log")]
    Logs(logs::Args),
    Flush(flush::Args),
    #[command(name = "reloadLogs", aliases = ["reloadlogs", "reload-logs"])]
    ReloadLogs(reload_logs::Args),
    #[command(visible_alias = "dump")]
    Save(save::Args),
    Resurrect(resurrect::Args),
    Startup(startup::Args),
    Unstartup(unstartup::Args),
    Kill(kill::Args),
    Ping(ping::Args),
    Get(get::Args),
    Set(set::Args),
    #[command(alias = "updatePM2")]
    Update(update::Args),
    Completion(completion::Args),
    Demo(commands::demo::Args),
    Help(help::Args),
    Man(man::Args),
}

/// Runs a command line (with the program's name first) and returns its exit code.
#[must_use]
pub fn run(args: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            return pm2_gaps::explain(args, &error).map_or_else(|| parse_failed(&error), |failure| fail(&failure));
        }
    };
    let (ui, started) = (Ui::new(cli.silent, cli.no_color), SystemTime::now());
    let result = home::of_caller().and_then(|home| block_on(dispatch(cli.command, Context { home, ui, started })));
    match result {
        Ok(outcome) => outcome.code(),
        Err(failure) => {
            ui.failure(&failure);
            failure.code()
        }
    }
}

/// Prints one line as the answer to another program.
#[must_use]
pub fn answer(line: &str) -> ExitCode {
    Ui::new(false, true).line(line);
    ExitCode::SUCCESS
}

/// Prints a failure and returns its exit code.
#[must_use]
pub fn fail(failure: &Failure) -> ExitCode {
    Ui::new(false, false).failure(failure);
    failure.code()
}

/// Prints what clap reports. Help and version end with 0, all other errors with 1, as in PM2.
fn parse_failed(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|error| Failure::new(format!("starting the runtime: {error}")))?.block_on(work)
}

async fn dispatch(command: Command, cx: Context) -> Result<Outcome, Failure> {
    match command {
        Command::Start(args) => start::run(*args, &cx).await,
        Command::Stop(args) => stop::run(args, &cx).await,
        Command::Restart(args) => restart::run(*args, &cx).await,
        Command::Reload(args) => reload::run(*args, &cx).await,
        Command::Delete(args) => delete::run(args, &cx).await,
        Command::Scale(args) => scale::run(args, &cx).await,
        Command::Reset(args) => reset::run(args, &cx).await,
        Command::SendSignal(args) => signal::run(args, &cx).await,
        Command::List(args) => list::run(args, &cx).await,
        Command::Jlist(args) => jlist::run(args, &cx).await,
        Command::Describe(args) => describe::run(args, &cx).await,
        Command::Explain(args) => explain::run(args, &cx).await,
        Command::History(args) => history::run(&args, &cx),
        Command::Doctor(args) => doctor::run(&args, &cx),
        Command::Id(args) => id::run(args, &cx).await,
        Command::Pid(args) => pid::run(args, &cx).await,
        Command::Env(args) => env::run(args, &cx).await,
        Command::Logs(args) => logs::run(args, &cx).await,
        Command::Flush(args) => flush::run(args, &cx).await,
        Command::ReloadLogs(args) => reload_logs::run(args, &cx).await,
        Command::Save(args) => save::run(args, &cx).await,
        Command::Update(args) => update::run(args, &cx).await,
        Command::Resurrect(args) => resurrect::run(args, &cx).await,
        Command::Startup(args) => startup::run(&args, &cx),
        Command::Unstartup(args) => unstartup::run(&args, &cx),
        Command::Kill(args) => kill::run(args, &cx).await,
        Command::Ping(args) => ping::run(args, &cx).await,
        Command::Get(args) => get::run(&args, &cx),
        Command::Set(args) => set::run(&args, &cx),
        Command::Demo(args) => commands::demo::run(args, &cx).await,
        Command::Help(args) => help::run(&args, Cli::command(), &cx),
        Command::Man(args) => man::run(&args, Cli::command(), &cx),
        Command::Completion(args) => Ok(completion::run(&args, Cli::command(), &cx)),
    }
}

#[cfg(test)]
mod tests;
