//! A key: a row of the table, and its flag on the command line.

use serde_json::Value;

use super::draft::Draft;
use super::form::{About, camel_case};
use super::members::{self, Mistake};
use super::read::Unfit;

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    /// The canonical spelling, in snake_case.
    pub name: &'static str,
    /// Other spellings, in snake_case. The camelCase of each is accepted as well.
    pub aliases: &'static [&'static str],
    /// The valid values, for the sentence `expected …`.
    pub expects: &'static str,
    /// Its documentation.
    pub about: About,
    /// Its flag on the command line, if it has one.
    pub flag: Option<Flag>,
    /// Why it cannot be changed by a restart, if it cannot.
    pub fixed: Option<&'static str>,
    pub(super) set: fn(&mut Draft, &Value) -> Result<(), Unfit>,
    /// Finds the mistake inside a value that is not valid, if the value is an object.
    pub(super) inside: fn(&Value) -> Option<Mistake>,
}

/// The flag of a key.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The long form, without the dashes.
    pub long: &'static str,
    /// The one-letter form.
    pub short: Option<char>,
    /// More long forms.
    pub aliases: &'static [&'static str],
    /// The value after the flag.
    pub takes: Takes,
    /// The line in `--help`.
    pub help: &'static str,
}

/// The value after a flag. The text is the name of the value in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value.
    Value(&'static str),
    /// One value, which may begin with a dash.
    Dashed(&'static str),
    /// One value; the flag may be repeated.
    Repeated(&'static str),
    /// One or more values, separated by spaces or commas.
    Several(&'static str),
    /// None: the presence of the flag sets the key to this.
    Nothing(bool),
}

impl Key {
    /// All spellings in config files: the name, its camelCase, and both of each alias.
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

    /// Sets the key in `draft`. The error has the expected and the found value. `null` changes nothing.
    pub fn set(&self, draft: &mut Draft, value: &Value) -> Result<(), Mistake> {
        let whole = || Mistake::whole(members::expected(self.expects, value));
        match value {
            Value::Null => Ok(()),
            _ => (self.set)(draft, value).map_err(|Unfit| (self.inside)(value).unwrap_or_else(whole)),
        }
    }

    /// Checks a value of the command line. The caller adds the found value to the error.
    pub fn check_word(&self, word: &str) -> Result<Value, String> {
        let value = Value::String(word.to_owned());
        (self.set)(&mut Draft::default(), &value).map(|()| value).map_err(|Unfit| format!("expected {}", self.expects))
    }

    pub(super) fn is_spelled(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}
