//! The binary: chooses by argv[1] which program to be (command line, keeper and daemon, demo worker, foreground
//! companion), and turns the result into an exit code.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use pmr::cli::demo::worker;
use pmr::cli::foreground::{self, Foreground};
use pmr::cli::{self, home};
use pmr::daemon::{self, Options, upgrade};
use pmr::keeper::{self, KeeperState};
use pmr::os::process::detach;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let personality = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    match personality {
        keeper::PERSONALITY => keep(&args),
        worker::PERSONALITY => worker::run().map_or_else(|failure| cli::fail(&failure), |()| ExitCode::SUCCESS),
        upgrade::CHECK => check(),
        foreground::COMPANION => foreground::run_companion(&args),
        _ => match Foreground::from_args(&args) {
            Some(Ok(foreground)) => in_foreground(foreground),
            Some(Err(failure)) => cli::fail(&failure),
            None => cli::run(&args),
        },
    }
}

/// Whether this program can go on with the state of a daemon, which lies in the file that is its standard input.
fn check() -> ExitCode {
    let ledger = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string());
    match ledger.and_then(|ledger| upgrade::check(&ledger)) {
        Ok(certificate) => cli::answer(&certificate),
        Err(error) => cli::fail(&error.into()),
    }
}

/// Runs keeper and daemon in the background: a new daemon, or one that continues after an upgrade replaced the program.
fn keep(args: &[OsString]) -> ExitCode {
    let options = Options { home: home::of_daemon(args), foreground: false, resurrect: false };
    if let Some(shared_memory) = keeper::resumed(args) {
        return KeeperState::resume(shared_memory).map_or(ExitCode::FAILURE, |state| run_keeper(state, None, &options));
    }
    match detach::detach() {
        Ok(readiness) => bootstrap(Some(readiness), None, &options),
        Err(_) => ExitCode::FAILURE,
    }
}

fn in_foreground(foreground: Foreground) -> ExitCode {
    let (companion, readiness) = match foreground.start_companion() {
        Ok(started) => started,
        Err(failure) => return cli::fail(&failure),
    };
    let Foreground { home, resurrect, .. } = foreground;
    bootstrap(readiness, companion, &Options { home, foreground: true, resurrect })
}

fn bootstrap(readiness: Option<OwnedFd>, companion: Option<i32>, options: &Options) -> ExitCode {
    match daemon::prepare_keeper(&options.home, readiness) {
        Ok(state) => run_keeper(state, companion, options),
        Err(error) => cli::fail(&error.into()),
    }
}

fn run_keeper(state: KeeperState, companion: Option<i32>, options: &Options) -> ExitCode {
    let god = |inherited| match daemon::run(options, inherited) {
        Ok(()) => 0,
        Err(error) => {
            let _ = cli::fail(&error.into());
            1
        }
    };
    let code = keeper::run(state, options.home.root().as_os_str(), companion, god);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
