//! Constructors of the rows of the table.

use serde_json::Value;

use super::draft::Draft;
use super::form::{About, Fallback, Form, Group};
use super::key::{Flag, Key, Takes};
use super::members::Mistake;
use super::read::Unfit;

pub(super) const fn key(
    name: &'static str,
    expects: &'static str,
    set: fn(&mut Draft, &Value) -> Result<(), Unfit>,
) -> Key {
    const UNSET: About = about(Group::Program, Form::Text, Fallback::Words(""), "", "");
    Key { name, aliases: &[], expects, about: UNSET, flag: None, fixed: None, set, inside: |_| None }
}

pub(super) const fn about(
    group: Group,
    form: Form,
    fallback: Fallback,
    example: &'static str,
    does: &'static str,
) -> About {
    About { group, form, fallback, example, does }
}

impl Key {
    pub(super) const fn about(mut self, about: About) -> Key {
        self.about = about;
        self
    }

    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> Key {
        self.aliases = aliases;
        self
    }

    pub(super) const fn inside(mut self, inside: fn(&Value) -> Option<Mistake>) -> Key {
        self.inside = inside;
        self
    }

    pub(super) const fn flag(mut self, flag: Flag) -> Key {
        self.flag = Some(flag);
        self
    }

    pub(super) const fn fixed(mut self, why: &'static str) -> Key {
        self.fixed = Some(why);
        self
    }
}

pub(super) const fn flag(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { long, short: None, aliases: &[], takes, help }
}

pub(super) const fn takes(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Value(value), help)
}

pub(super) const fn dashed(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Dashed(value), help)
}

pub(super) const fn repeated(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Repeated(value), help)
}

pub(super) const fn several(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Several(value), help)
}

pub(super) const fn sets(to: bool, long: &'static str, help: &'static str) -> Flag {
    flag(long, Takes::Nothing(to), help)
}

impl Flag {
    pub(super) const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }

    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> Flag {
        self.aliases = aliases;
        self
    }
}
