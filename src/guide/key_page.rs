//! The page on the keys of an app, made from the table of keys.

use std::fmt::Write as _;

use crate::spec::keys::form::{Fallback, Form, Group};
use crate::spec::keys::table::{IGNORED, KEYS, UNSUPPORTED};
use crate::spec::keys::{Flag, Key, Member, Takes};

const HEAD: &str = "\
# Keys: what can be said about an app

The keys that an app has in a config file, by topic. `pmr help keys KEY` shows one of them, `pmr help keys --schema` \
prints a JSON Schema of config files for editors, and `pmr start --help` has the flags.

A key may be written in camelCase as well: `maxRestarts` is `max_restarts`. `null` says as much as leaving it out.

- A *time* is a number of milliseconds, or a text with units: `\"500ms\"`, `\"10s\"`, `\"1m 30s\"`.
- A *size* is a number of bytes, or a text with a unit of 1024: `\"512K\"`, `\"300M\"`, `\"1.5G\"`.
- A number may be written as a text of digits.

```js
module.exports = {
  apps: [{ name: \"api\", script: \"server.js\", instances: \"max\", max_memory_restart: \"300M\" }],
};
```
";

/// The page, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for group in Group::ALL {
        let _ = write!(page, "\n## {}\n\n`pmr help {}` explains them.\n", group.title(), group.topic());
        for key in KEYS.iter().filter(|key| key.about.group == group) {
            page.push('\n');
            page.push_str(&entry(key));
        }
        if group == Group::Environment {
            page.push_str(&environments());
        }
    }
    page.push_str(&of_pm2());
    page
}

/// What the page says about one key, with a heading of the third rank.
#[must_use]
pub fn entry(key: &Key) -> String {
    let about = &key.about;
    let mut entry = format!("### `{}`\n\n{}\n\n", key.name, about.does);
    let _ = writeln!(entry, "- Type: {}", sort(about.form));
    let _ = writeln!(entry, "- Default: {}", about.fallback.words());
    let _ = writeln!(entry, "- Example: `{}: {}`", key.name, about.example);
    if let Some(flag) = &key.flag {
        let _ = writeln!(entry, "- Flag: {}", spelled(flag));
    }
    if !key.aliases.is_empty() {
        let _ = writeln!(entry, "- Also written: {}", quoted(key.aliases));
    }
    if !about.form.members().is_empty() {
        entry.push_str("- Members:\n");
        about.form.members().iter().for_each(|one| entry.push_str(&member(one)));
    }
    entry
}

fn member(member: &Member) -> String {
    let fallback = match member.fallback {
        Fallback::Words("none") => String::new(),
        fallback => format!("; default {}", fallback.words()),
    };
    format!("  - `{}` ({}{fallback}): {}\n", member.name, sort(member.form), member.does)
}

/// The sort of a value and its unit.
fn sort(form: Form) -> String {
    match form.unit() {
        Some(unit) => format!("{} ({unit})", form.words()),
        None => form.words(),
    }
}

fn spelled(flag: &Flag) -> String {
    let value = match flag.takes {
        Takes::Value(name) | Takes::Dashed(name) | Takes::Repeated(name) => format!(" {name}"),
        Takes::Several(name) => format!(" {name}…"),
        Takes::Nothing(_) => String::new(),
    };
    let long = format!("`--{}{value}`", flag.long);
    let short = flag.short.map(|short| format!("`-{short}{value}`"));
    let aliases = flag.aliases.iter().map(|alias| format!("`--{alias}{value}`"));
    std::iter::once(long).chain(short).chain(aliases).collect::<Vec<_>>().join(", ")
}

fn environments() -> String {
    "\n### `env_NAME`\n\nVariables that `--env NAME` merges over `env`; any number of them, one for each NAME.\n\n\
     - Type: object\n- Example: `env_production: { \"NODE_ENV\": \"production\" }`\n- Flag: `--env NAME`\n"
        .to_owned()
}

fn of_pm2() -> String {
    format!(
        "\n## Keys of PM2\n\nThese change nothing in pmr and are accepted without effect: {}.\n\n\
         These are not supported yet. They are an error, unless the value leaves them switched off (`false`, `0`, \
         `\"\"`, `[]`, `null`): {}.\n",
        quoted(IGNORED),
        quoted(UNSUPPORTED)
    )
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::keys::{Lookup, look_up};

    #[test]
    fn an_entry_says_all_there_is() {
        let Lookup::Known(key) = look_up("kill_timeout") else { panic!("kill_timeout is a key") };
        assert_eq!(
            entry(key),
            "### `kill_timeout`\n\nTime that a process has to exit after the stop signal, before SIGKILL.\n\n\
             - Type: time (milliseconds)\n- Default: `\"1600ms\"`\n- Example: `kill_timeout: \"5s\"`\n\
             - Flag: `--kill-timeout TIME`, `-k TIME`\n"
        );
    }

    #[test]
    fn every_key_has_its_entry() {
        let page = markdown();
        for key in KEYS {
            assert_eq!(page.matches(&format!("### `{}`\n", key.name)).count(), 1, "{}", key.name);
        }
    }
}
