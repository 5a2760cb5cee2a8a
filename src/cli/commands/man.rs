//! `man`: writes manual pages, for packages.

use std::path::PathBuf;

use super::super::context::Context;
use super::super::failure::{Doing, Failure};
use super::super::outcome::Outcome;
use super::super::view::manual;
use crate::protocol::VERSION;

/// Write the manual pages of all commands and of the guide into a folder
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr man ./man\n  man -l ./man/pmr-reload.1\n  man -l ./man/pmr-guide-keys.7")]
pub struct Args {
    /// The folder, created if it does not exist; pages in it are replaced
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes the pages. `pmr` is the grammar of the whole command line.
pub fn run(args: &Args, pmr: clap::Command, cx: &Context) -> Result<Outcome, Failure> {
    let folder = &args.folder;
    std::fs::create_dir_all(folder).doing(|| format!("creating the folder {}", folder.display()))?;
    for (name, text) in manual::pages(pmr, VERSION) {
        let path = folder.join(name);
        std::fs::write(&path, text).doing(|| format!("writing {}", path.display()))?;
        cx.ui.show(&path.display().to_string());
    }
    Ok(Outcome::Done)
}
