//! One key: a row of the table, and the flag it has on the command line.

use serde_json::Value;

use super::draft::Draft;
use super::form::{About, camel_case};
use super::members::{self, Mistake};
use super::read::Unfit;

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    /// How we write it, in snake_case.
    pub name: &'static str,
    /// Other spellings, in snake_case. The camelCase of each is accepted as well.
    pub aliases: &'static [&'static str],
    /// What values it takes, for the sentence `expected …`.
    pub expects: &'static str,
    /// What a reader is told about it.
    pub about: About,
    /// How it is given on the command line, if it can be.
    pub flag: Option<Flag>,
    /// Why it cannot be changed by a restart, if so.
    pub fixed: Option<&'static str>,
    pub(super) set: fn(&mut Draft, &Value) -> Result<(), Unfit>,
    /// What is wrong inside a value that does not fit, if that can be said.
    pub(super) inside: fn(&Value) -> Option<Mistake>,
}

/// How a key is given on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub long: &'static str,
    /// The one-letter form.
    pub short: Option<char>,
    /// More long forms.
    pub aliases: &'static [&'static str],
    /// What follows it.
    pub takes: Takes,
    /// The line in `--help`.
    pub help: &'static str,
}

/// What follows a flag. The text is the name of the value in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value.
    Value(&'static str),
    /// One value, which may begin with a dash.
    Dashed(&'static str),
    /// One value; the flag may be repeated.
    Repeated(&'static str),
    /// One or more values, parted by spaces or commas.
    Several(&'static str),
    /// None: the presence of the flag sets the key to this.
    Nothing(bool),
}

impl Key {
    /// Every spelling that config files may use: the name, its camelCase, and both of each alias.
    #[must_use]
    pub fn spellings(&self) -> Vec<String> {
        let mut all = Vec::new();
        for name in std::iter::once(&self.name).chain(self.aliases) {
            for spelling in [(*name).to_owned(), camel_case(name)] {
                if !all.contains(&spelling) {
                    all.push(spelling);
                }
            }
        }
        all
    }

    /// Sets the key in `draft`, or tells what was expected and what was found. `null` leaves it as it is.
    pub fn set(&self, draft: &mut Draft, value: &Value) -> Result<(), Mistake> {
        let whole = || Mistake::whole(members::expected(self.expects, value));
        match value {
            Value::Null => Ok(()),
            _ => (self.set)(draft, value).map_err(|Unfit| (self.inside)(value).unwrap_or_else(whole)),
        }
    }

    /// Checks one word of the command line; what was typed is shown by the caller.
    pub fn check_word(&self, word: &str) -> Result<Value, String> {
        let value = Value::String(word.to_owned());
        (self.set)(&mut Draft::default(), &value).map(|()| value).map_err(|Unfit| format!("expected {}", self.expects))
    }

    pub(super) fn is_spelled(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}
