//! argv → personality → exit code. Nothing is done before it is known which program this shall be.

use std::process::ExitCode;

use pmr::cli::foreground::{Companion, Foreground};
use pmr::cli::{self, home};
use pmr::daemon::{self, Options};
use pmr::demo::worker;
use pmr::os::detach;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "__daemon") {
        return match detach::detach() {
            Ok(readiness) => serve(Options {
                readiness: Some(readiness),
                foreground: false,
                resurrect: false,
                home: home::of_daemon(&args),
            }),
            Err(_) => ExitCode::FAILURE,
        };
    }
    if args.get(1).is_some_and(|arg| arg == worker::PERSONALITY) {
        return worker::run();
    }
    match Foreground::asked_for(&args) {
        Some(Ok(foreground)) => in_foreground(foreground),
        Some(Err(failure)) => cli::fail(&failure),
        None => cli::run(args),
    }
}

fn in_foreground(foreground: Foreground) -> ExitCode {
    let Foreground { home, resurrect, command } = foreground;
    let (companion, readiness) = Companion::start(command, &home);
    let served = serve(Options { home, readiness, foreground: true, resurrect });
    companion.end().unwrap_or(served)
}

fn serve(options: Options) -> ExitCode {
    daemon::run(options).map_or_else(|error| cli::fail(&error.into()), |()| ExitCode::SUCCESS)
}
