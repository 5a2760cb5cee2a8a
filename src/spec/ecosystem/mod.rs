//! Parses the value of an ecosystem file into drafts of apps.
//!
//! ```text
//! { apps: [ {…}, {…} ] }   { apps: {…} }   { pm2: … } (package.json)   [ {…}, {…} ]   {…}
//! ```
//!
//! All mistakes in a file are reported at once, each with its path. A file with a mistake yields no drafts, so that
//! nothing is started from it.

pub mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::keys::{self, Draft, Lookup, Mistake};
use super::{DEFAULT_NAMESPACE, target};

/// Options of the command line about a file as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Names of the selected apps; an item may have several, separated by commas or spaces. Empty means all.
    pub only: Vec<String>,
    /// NAME of the `env_NAME` to merge over `env`.
    pub env_name: Option<String>,
}

/// All mistakes in a file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Each mistake, in the order of the file's apps.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the value, such as `apps[0].instances`; empty for the file as a whole.
    pub path: String,
    /// What was expected and what was found.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.path, self.what) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Parses the apps of a file, in its order; with `only`, the selected ones.
pub fn parse(value: Value, options: &Options) -> Result<Vec<Draft>, ConfigError> {
    let mut reader = Reader { options, problems: Vec::new(), env_names: BTreeSet::new() };
    let apps = reader.apps(value);
    let drafts: Vec<(String, Draft)> =
        apps.into_iter().map(|(path, value)| (path.clone(), reader.app(&path, value))).collect();
    if reader.problems.is_empty() {
        reader.check_names(&drafts);
        reader.check_env_name();
    }
    let chosen = reader.chosen(drafts.into_iter().map(|(_, draft)| draft).collect());
    if reader.problems.is_empty() { Ok(chosen) } else { Err(ConfigError { problems: reader.problems }) }
}

struct Reader<'a> {
    options: &'a Options,
    problems: Vec<Problem>,
    /// The NAMEs of all `env_NAME` seen.
    env_names: BTreeSet<String>,
}

impl Reader<'_> {
    fn problem(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), what: what.into() });
    }

    /// The values of the apps, each with its path.
    fn apps(&mut self, value: Value) -> Vec<(String, Value)> {
        match value {
            Value::Array(items) => self.numbered("", items),
            Value::Object(mut top) => {
                let section = ["apps", "pm2"].into_iter().find_map(|name| Some((name, top.remove(name)?)));
                match section {
                    Some((name, Value::Array(items))) => {
                        self.check_top(name, &top);
                        self.numbered(name, items)
                    }
                    Some((name, app)) => {
                        self.check_top(name, &top);
                        vec![(name.to_owned(), app)]
                    }
                    None => vec![(String::new(), Value::Object(top))],
                }
            }
            other => vec![(String::new(), other)],
        }
    }

    fn numbered(&mut self, path: &str, items: Vec<Value>) -> Vec<(String, Value)> {
        if items.is_empty() {
            self.problem(path, "the list of apps is empty");
        }
        items.into_iter().enumerate().map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
    }

    /// Checks the keys beside the apps. Beside `pm2` (in a package.json) any key is allowed; else the keys that PM2
    /// has, and `x-…`, which by convention holds the values of YAML anchors.
    fn check_top(&mut self, section: &str, rest: &Map<String, Value>) {
        if section == "pm2" {
            return;
        }
        for (name, value) in rest {
            match name.as_str() {
                "deploy" | "$schema" => {}
                _ if name.starts_with("x-") => {}
                "static" if is_off(value) => {}
                "static" => self.problem(name, keys::unsupported(name)),
                _ => {
                    let near = target::similar(name, &["apps", "deploy", "static"]).into_iter().next();
                    self.problem(name, unknown(near.as_deref()));
                }
            }
        }
    }

    fn app(&mut self, path: &str, value: Value) -> Draft {
        let mut draft = Draft::default();
        let Value::Object(settings) = value else {
            self.problem(
                path,
                format!("expected an object that describes an app, found {}", keys::read::found(&value)),
            );
            return draft;
        };
        let known_before = self.problems.len();
        let mut seen: BTreeMap<&str, (&str, &Value)> = BTreeMap::new();
        for (name, value) in &settings {
            if let Lookup::Known(key) = keys::look_up(name)
                && let Some((other, before)) = seen.insert(key.name, (name, value))
                && before != value
            {
                self.problem(join(path, name), format!("it is the same key as `{other}`, and they differ: keep one"));
            }
            self.setting(&mut draft, path, name, value);
        }
        self.merge_env(&mut draft, &settings);
        if draft.script.is_none() && self.problems.len() == known_before {
            self.problem(path, "`script` is missing");
        }
        draft
    }

    fn setting(&mut self, draft: &mut Draft, path: &str, name: &str, value: &Value) {
        let mut path_of_it = join(path, name);
        let mut describe = |mistake: Mistake| {
            if !mistake.member.is_empty() {
                path_of_it = join(&path_of_it, &mistake.member);
            }
            mistake.what
        };
        let what = match keys::look_up(name) {
            Lookup::Known(key) => key.set(draft, value).err().map(&mut describe),
            Lookup::Ignored => None,
            Lookup::Unsupported => (!is_off(value)).then(|| keys::unsupported(name)),
            Lookup::Unknown { nearest } => match env_name(name) {
                Some(env_name) => {
                    self.env_names.insert(env_name.to_owned());
                    set_env(&mut Draft::default(), value).err().map(&mut describe)
                }
                // The file may also be one with a misspelt `apps`, and not one bare app.
                None if path.is_empty() => Some(unknown(keys::nearest(name, &["apps", "pm2"]).as_deref())),
                None => Some(unknown(nearest.as_deref())),
            },
        };
        if let Some(what) = what {
            self.problem(path_of_it, what);
        }
    }

    /// Merges the chosen `env_NAME`, which is checked already, over `env`.
    fn merge_env(&self, draft: &mut Draft, settings: &Map<String, Value>) {
        let chosen = self.options.env_name.as_ref().and_then(|name| settings.get(&format!("env_{name}")));
        if let Some(value) = chosen {
            let _checked_already = set_env(draft, value);
        }
    }

    fn check_env_name(&mut self) {
        let Some(name) = &self.options.env_name else { return };
        if !self.env_names.contains(name) {
            let there: Vec<String> = self.env_names.iter().map(|name| format!("`env_{name}`")).collect();
            let there =
                if there.is_empty() { "nor any other".to_owned() } else { format!("only {}", there.join(", ")) };
            self.problem("", format!("no app has an `env_{name}`, {there}"));
        }
    }

    fn check_names(&mut self, drafts: &[(String, Draft)]) {
        let mut owners: BTreeMap<(String, String), &str> = BTreeMap::new();
        for (path, draft) in drafts {
            let namespace = draft.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
            for name in draft.names().into_iter().take(1) {
                let what = format!("the app is called `{name}`, as is ");
                if let Some(owner) = owners.insert((namespace.clone(), name), path) {
                    self.problem(path, format!("{what}{owner}: give each its own `name`"));
                }
            }
        }
    }

    /// The drafts that `only` selects.
    fn chosen(&mut self, drafts: Vec<Draft>) -> Vec<Draft> {
        if self.options.only.is_empty() {
            return drafts;
        }
        let names: Vec<Vec<String>> = drafts.iter().map(Draft::names).collect();
        let all: Vec<&str> = names.iter().filter_map(|names| names.first()).map(String::as_str).collect();
        let is_name = |word: &str| names.iter().flatten().any(|name| name == word);
        let selected = self.options.only.iter().flat_map(|list| list.split(',')).map(str::trim);
        // A name may contain spaces, so a piece that is a name is not split.
        let selected: Vec<&str> = selected
            .flat_map(|piece| if is_name(piece) { vec![piece] } else { piece.split_whitespace().collect() })
            .collect();
        for missing in selected.iter().filter(|word| !is_name(word)) {
            let there =
                if all.is_empty() { "there is none".to_owned() } else { format!("there is {}", all.join(", ")) };
            self.problem("", format!("no app is called `{missing}`, {there}"));
        }
        let is_selected = |names: &Vec<String>| names.iter().any(|name| selected.contains(&name.as_str()));
        drafts.into_iter().zip(&names).filter(|(_, names)| is_selected(names)).map(|(draft, _)| draft).collect()
    }
}

fn env_name(key: &str) -> Option<&str> {
    key.strip_prefix("env_").filter(|name| !name.is_empty())
}

fn set_env(draft: &mut Draft, value: &Value) -> Result<(), Mistake> {
    match keys::look_up("env") {
        Lookup::Known(key) => key.set(draft, value),
        Lookup::Ignored | Lookup::Unsupported | Lookup::Unknown { .. } => Ok(()),
    }
}

/// True if a value leaves the feature of its key switched off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

fn unknown(nearest: Option<&str>) -> String {
    nearest.map_or_else(|| "unknown key".to_owned(), |near| format!("unknown key, did you mean `{near}`?"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests;
