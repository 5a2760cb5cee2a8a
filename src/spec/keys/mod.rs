//! The keys of an app: spelling, valid values, and the field that each sets. They stand in one table ([`table`]), which
//! is used by config files, the command line and a restart with changed options, so a key is added in one row (and with
//! the field it sets).

mod draft;
pub mod form;
mod key;
mod members;
mod objects;
pub mod read;
mod row;
pub mod table;

use serde_json::Value;

pub use draft::Draft;
pub use form::Member;
pub use key::{Flag, Key, Takes};
pub use members::Mistake;
pub use objects::PROBES;
pub use read::Instances;

use super::{AppSpec, Program, target};

/// The result of looking up a spelling.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A key that pmr reads.
    Known(&'static Key),
    /// A key of PM2 that has no effect in pmr and is accepted.
    Ignored,
    /// A key of PM2 that is not supported yet. Accepted if its value switches the feature off.
    Unsupported,
    /// The spelling of no key, of pmr or PM2.
    Unknown {
        /// The nearest known spelling, if one is similar.
        nearest: Option<String>,
    },
}

/// Looks up a spelling in snake_case or camelCase.
#[must_use]
pub fn look_up(spelling: &str) -> Lookup {
    let name = snake_case(spelling);
    if let Some(key) = table::KEYS.iter().find(|key| key.is_spelled(&name)) {
        Lookup::Known(key)
    } else if table::IGNORED.contains(&name.as_str()) {
        Lookup::Ignored
    } else if table::UNSUPPORTED.contains(&name.as_str()) {
        Lookup::Unsupported
    } else {
        Lookup::Unknown { nearest: nearest(&name, &[]) }
    }
}

/// The error for a key that is not supported yet.
#[must_use]
pub fn unsupported(spelling: &str) -> String {
    format!("`{spelling}` is a PM2 key that pmr does not support yet")
}

/// The known spelling, or one of `others`, that is nearest to `name`.
pub(super) fn nearest(name: &str, others: &[&str]) -> Option<String> {
    let spelled = name.replace('-', "_").to_lowercase();
    let keys = table::KEYS.iter().flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()));
    let all: Vec<&str> = keys.chain(table::UNSUPPORTED.iter().copied()).chain(others.iter().copied()).collect();
    // One letter more or less, or two swapped ones, count as near also in a short word, which `similar` would miss.
    let slip = |known: &&str| spelled.len() > 2 && strsim::osa_distance(known, &spelled) == 1;
    let slipped = all.iter().copied().find(|known| *known == spelled).or_else(|| all.iter().copied().find(slip));
    slipped.map(str::to_owned).or_else(|| target::similar(&spelled, &all).into_iter().next())
}

/// `maxMemoryRestart` → `max_memory_restart`; a name with underscores stays as it is.
fn snake_case(name: &str) -> String {
    if name.contains('_') || name.starts_with(|c: char| c.is_ascii_uppercase()) {
        return name.to_owned();
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// Changes an existing app for `restart` and `reload`. All settings are checked before the first is applied. An error
/// has the key and the mistake, and leaves the app unchanged.
pub fn apply_changes(spec: &mut AppSpec, settings: &[(String, Value)]) -> Result<(), (String, String)> {
    let mut draft = Draft::of(spec);
    for (name, value) in settings {
        change(spec, &mut draft, name, value).map_err(|why| (name.clone(), why))?;
    }
    let mut changed = spec.clone();
    draft.put_into(&mut changed);
    match changed.contradiction() {
        // A contradiction that existed before is not an error of this change.
        Some((key, why)) if !settings.is_empty() => return Err((key.to_owned(), why)),
        Some(_) | None => *spec = changed,
    }
    Ok(())
}

fn change(spec: &AppSpec, draft: &mut Draft, name: &str, value: &Value) -> Result<(), String> {
    let key = match look_up(name) {
        Lookup::Known(key) => key,
        Lookup::Ignored => return Ok(()),
        Lookup::Unsupported => return Err(unsupported(name)),
        Lookup::Unknown { .. } => return Err("there is no such setting".to_owned()),
    };
    if let Some(why) = key.fixed {
        return Err(why.to_owned());
    }
    match (key.name, &spec.program) {
        ("args", Program::CommandLine { .. }) => return Err("the app is a command line, which has none".to_owned()),
        ("interpreter_args", Program::CommandLine { .. } | Program::Binary { .. }) => {
            return Err("the app has no interpreter".to_owned());
        }
        _ => {}
    }
    key.set(draft, value).map_err(|mistake| mistake.to_string())
}

#[cfg(test)]
mod tests;
