//! Config files: recognises their names and reads the apps that they declare.

mod javascript;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::resolve::{InputError, reason};
use crate::spec::ecosystem::text::{Format, read_text};
use crate::spec::ecosystem::{self, ConfigError, Options};
use crate::spec::keys::Draft;

/// The argument that stands for standard input.
const STDIN: &str = "-";

enum Kind {
    Data(Format),
    JavaScript,
}

const KINDS: &[(&str, Kind)] = &[
    (".json", Kind::Data(Format::Json)),
    (".json5", Kind::Data(Format::Json)),
    (".yaml", Kind::Data(Format::Yaml)),
    (".yml", Kind::Data(Format::Yaml)),
    (".toml", Kind::Data(Format::Toml)),
    (".config.js", Kind::JavaScript),
    (".config.cjs", Kind::JavaScript),
    (".config.mjs", Kind::JavaScript),
];

fn kind(arg: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|(ending, _)| arg.ends_with(ending)).map(|(_, kind)| kind)
}

/// True if an argument names a config file, by its ending, or is `-`, standard input.
#[must_use]
pub fn is_config_file(arg: &str) -> bool {
    arg == STDIN || kind(arg).is_some()
}

/// The config file of `start` without arguments: `ecosystem.config.js` or a similar name, in this order.
#[must_use]
pub fn find_default(dir: &Path) -> Option<PathBuf> {
    let names = ["ecosystem.config", "ecosystem"].into_iter();
    let endings = [".js", ".cjs", ".mjs", ".json", ".json5", ".yaml", ".yml", ".toml"];
    names
        .flat_map(|name| endings.iter().map(move |ending| format!("{name}{ending}")))
        .filter(|name| is_config_file(name))
        .map(|name| dir.join(name))
        .find(|path| path.is_file())
}

/// Reads the apps of a config file, or of standard input for `-`. The error lists all mistakes.
pub fn load(arg: &str, options: &Options) -> Result<Vec<Draft>, InputError> {
    let value = if arg == STDIN { stdin()? } else { value(arg, options)? };
    let is_package = Path::new(arg).file_name().is_some_and(|name| name == "package.json");
    if is_package && value.get("pm2").is_none() {
        return Err(InputError::new(format!("{arg} has no `pm2` section"))
            .hint("name the app's script instead, for instance `pmr start index.js` or `pmr start npm -- start`"));
    }
    ecosystem::parse(value, options).map_err(|error| mistakes(arg, &error))
}

fn value(arg: &str, options: &Options) -> Result<Value, InputError> {
    let path = Path::new(arg);
    if !path.exists() {
        let cwd = std::env::current_dir().unwrap_or_default();
        return Err(
            InputError::new(format!("there is no file {arg}")).hint(format!("looked for it in {}", cwd.display()))
        );
    }
    match kind(arg) {
        Some(Kind::JavaScript) => javascript::evaluate(path, options.env_name.as_deref()),
        Some(Kind::Data(format)) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| InputError::new(format!("{arg} cannot be read: {}", reason(&error))))?;
            read(arg, *format, &text)
        }
        None => Err(InputError::new(format!("{arg} is not the name of a config file"))
            .hint("config files end in .config.js, .config.mjs, .config.cjs, .json, .yaml or .toml")),
    }
}

fn stdin() -> Result<Value, InputError> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| InputError::new(format!("standard input cannot be read: {}", reason(&error))))?;
    read("standard input", Format::Json, &text)
}

fn read(origin: &str, format: Format, text: &str) -> Result<Value, InputError> {
    let language = match format {
        Format::Json => "JSON",
        Format::Yaml => "YAML",
        Format::Toml => "TOML",
    };
    read_text(format, text).map_err(|why| InputError::new(format!("{origin} is not valid {language}: {why}")))
}

fn mistakes(arg: &str, error: &ConfigError) -> InputError {
    let origin = if arg == STDIN { "standard input" } else { arg };
    InputError::new(match error.problems.as_slice() {
        [only] => format!("{origin}: {only}"),
        several => {
            let lines: String = several.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("{origin} has {} mistakes:{lines}", several.len())
        }
    })
}

#[cfg(test)]
mod tests;
