//! What a command line says about an app, and how a script and these words become an app's spec.
//!
//! PLACEHOLDER for the merge: the real flags, the config files and the resolution are written beside this branch.

use serde_json::Value;

use super::failure::Failure;
use crate::spec::AppSpec;

/// Settings of an app as flags.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct AppFlags {
    /// Name of the app
    #[arg(short, long)]
    pub name: Option<String>,
}

impl AppFlags {
    /// The settings by canonical key.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, Value)> {
        self.name.iter().map(|name| ("name".to_owned(), Value::from(name.as_str()))).collect()
    }
}

/// How a config file is read.
#[derive(Clone, Debug, Default)]
pub struct FileChoice<'a> {
    /// Only these apps; all if empty.
    pub only: &'a [String],
    /// Which `env_NAME` is merged in.
    pub env: Option<&'a str>,
}

/// True if the word names a config file rather than a script.
#[must_use]
pub fn is_config_file(word: &str) -> bool {
    [".json", ".yml", ".yaml", ".toml", ".config.js", ".config.cjs", ".config.mjs"]
        .iter()
        .any(|end| word.ends_with(end))
}

/// The apps of a config file, complete and checked.
pub fn load(
    path: &str,
    _choice: &FileChoice<'_>,
    _flags: &AppFlags,
    _args: &[String],
) -> Result<Vec<AppSpec>, Failure> {
    Err(Failure::new(format!("{path}: this build reads no config files")))
}

/// The app that `start TARGET` means.
pub fn resolve(target: &str, _flags: &AppFlags, _args: &[String]) -> Result<AppSpec, Failure> {
    Err(Failure::new(format!("{target}: this build resolves no scripts")))
}
