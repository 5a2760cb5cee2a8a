//! The documentation of a key: its topic, the form of its values, its default, an example and a sentence. The guide's
//! page of keys, the JSON Schema of config files and the defaults in `--help` are generated from it.

use serde_json::Value;

/// The documentation of a key. Required in each row.
#[derive(Debug)]
pub struct About {
    /// The topic it belongs to.
    pub group: Group,
    /// The form of its values.
    pub form: Form,
    /// The default.
    pub fallback: Fallback,
    /// A value for a config file: JSON, which is JavaScript as well.
    pub example: &'static str,
    /// What the key does: whole sentences in Markdown.
    pub does: &'static str,
}

/// A topic that keys belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What is executed, and where.
    Program,
    /// The variables that processes are started with.
    Environment,
    /// Instances and the ports they share.
    Cluster,
    /// Sockets that are opened for the app.
    Sockets,
    /// When a process counts as ready or healthy, and the order of apps.
    Health,
    /// What follows an exit.
    Restarts,
    /// How a process is stopped, and what a failed reload does.
    Stop,
    /// Limits of a process.
    Limits,
    /// User and sandbox of a process.
    Security,
    /// Where its output goes.
    Logs,
}

impl Group {
    /// All topics, in the order of the page.
    pub const ALL: [Group; 10] = [
        Group::Program,
        Group::Environment,
        Group::Cluster,
        Group::Sockets,
        Group::Health,
        Group::Restarts,
        Group::Stop,
        Group::Limits,
        Group::Security,
        Group::Logs,
    ];

    /// The heading over its keys.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Group::Program => "The program",
            Group::Environment => "Environment",
            Group::Cluster => "Processes and ports",
            Group::Sockets => "Sockets that pmr opens",
            Group::Health => "Readiness, health and order",
            Group::Restarts => "Start and restart",
            Group::Stop => "Stop and reload",
            Group::Limits => "Limits",
            Group::Security => "User and confinement",
            Group::Logs => "Logs",
        }
    }

    /// The topic of the guide that explains it.
    #[must_use]
    pub fn topic(self) -> &'static str {
        match self {
            Group::Program | Group::Environment => "start",
            Group::Cluster => "cluster",
            Group::Sockets => "sockets",
            Group::Health => "health",
            Group::Restarts => "recovery",
            Group::Stop => "reload",
            Group::Limits => "limits",
            Group::Security => "security",
            Group::Logs => "logs",
        }
    }
}

/// The form of values that a key or a member takes. A number may always be written as a text of digits, too.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Text that is not blank.
    Text,
    /// The path of a file or a directory; not blank.
    Path,
    /// A name: one line of text, or a number.
    Name,
    /// A user or a group, by name or number.
    Account,
    /// The name of an environment variable.
    Variable,
    /// `true` or `false`.
    Boolean,
    /// A whole number of at least `least`. If 0 has another meaning, such as no limit, it is accepted as well.
    Count {
        /// The minimum, except 0 if `zero` is set.
        least: u32,
        /// True if 0 is accepted in any case.
        zero: bool,
    },
    /// A time with a minimum.
    Time {
        /// The minimum in milliseconds.
        least: u32,
    },
    /// A size with a minimum, or 0.
    Size {
        /// The minimum in bytes.
        least: u32,
    },
    /// Processor time.
    Processors,
    /// A number of processes.
    Instances,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Whole numbers in a range: one, a list, or a text with commas in between.
    Numbers {
        /// The minimum.
        from: u16,
        /// The maximum.
        to: u16,
    },
    /// A list of words, or one text that is split as a shell would.
    Words,
    /// A list of paths, or one.
    Paths,
    /// An object of environment variables.
    Variables,
    /// Addresses of sockets: one or a list.
    Endpoints,
    /// Apps, and the condition on each.
    Dependencies,
    /// An object with these members.
    Object(&'static [Member]),
    /// An object with these members, or the short form of a health check.
    Check(&'static [Member]),
    /// A port, or `host:port`.
    Port,
    /// A command line, or a list of its words.
    Command,
}

impl Form {
    /// The form in a few words, without its unit.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Form::Text => "text".to_owned(),
            Form::Path => "path".to_owned(),
            Form::Name => "name: one line of text, or a number".to_owned(),
            Form::Account => "name or number".to_owned(),
            Form::Variable => "name of a variable".to_owned(),
            Form::Boolean => "`true` or `false`".to_owned(),
            Form::Count { least: 0, .. } => "whole number".to_owned(),
            Form::Count { least, zero: false } => format!("whole number of at least {least}"),
            Form::Count { least, zero: true } => format!("whole number of at least {least}, or 0"),
            Form::Time { least: 0 } => "time".to_owned(),
            Form::Time { least: 1 } => "time of more than 0".to_owned(),
            Form::Time { least } => format!("time of at least {least}"),
            Form::Size { least: 0 } => "size".to_owned(),
            Form::Size { least } => format!("size of at least {least}, or 0"),
            Form::Processors => "number, or a percentage of one processor".to_owned(),
            Form::Instances => "whole number of at most 10000, or `\"max\"`".to_owned(),
            Form::Choice(words) => choice(words),
            Form::Numbers { from, to } => format!("whole numbers from {from} to {to}, one or a list"),
            Form::Words => "list of texts, or one text that is split at spaces".to_owned(),
            Form::Paths => "path, or a list of paths".to_owned(),
            Form::Variables => "object".to_owned(),
            Form::Endpoints => "address, object, or a list of them".to_owned(),
            Form::Dependencies => "name of an app, list of names, or object".to_owned(),
            Form::Object(_) => "object".to_owned(),
            Form::Check(_) => "text, or object".to_owned(),
            Form::Port => "port, or `\"host:port\"`".to_owned(),
            Form::Command => "command line, or a list of words".to_owned(),
        }
    }

    /// The unit of a plain number, if it has one.
    #[must_use]
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Form::Time { .. } => Some("milliseconds"),
            Form::Size { .. } => Some("bytes"),
            Form::Processors => Some("processors"),
            _ => None,
        }
    }

    /// The members of an object.
    #[must_use]
    pub fn members(self) -> &'static [Member] {
        match self {
            Form::Object(members) | Form::Check(members) => members,
            _ => &[],
        }
    }
}

/// A member of an object.
#[derive(Debug)]
pub struct Member {
    /// How it is written.
    pub name: &'static str,
    /// The sort of its values.
    pub form: Form,
    /// What holds without it.
    pub fallback: Fallback,
    /// What it does: a phrase in Markdown.
    pub does: &'static str,
    /// What values it takes, for the sentence `expected …`.
    pub(super) expects: &'static str,
    /// True if a value is such a one.
    pub(super) fits: fn(&Value) -> bool,
}

fn choice(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The default of a key or a member.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value, which is JSON.
    Value(&'static str),
    /// 0, which has this meaning.
    Zero(&'static str),
    /// A description: the default depends on other settings, or is no value.
    Words(&'static str),
}

impl Fallback {
    /// The default as JSON, if it is a value.
    #[must_use]
    pub fn json(self) -> Option<&'static str> {
        match self {
            Fallback::Value(json) => Some(json),
            Fallback::Zero(_) => Some("0"),
            Fallback::Words(_) => None,
        }
    }

    /// The default after a flag in `--help`; `None` for an empty value.
    #[must_use]
    pub fn short(self) -> Option<&'static str> {
        match self {
            Fallback::Value("[]" | "{}") => None,
            Fallback::Value(json) => Some(json.trim_matches('"')),
            Fallback::Zero(words) | Fallback::Words(words) => Some(words),
        }
    }

    /// The default on the page, in Markdown.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Fallback::Value("[]" | "{}") => "none".to_owned(),
            Fallback::Value(json) => format!("`{json}`"),
            Fallback::Zero(words) => format!("`0`: {words}"),
            Fallback::Words(words) => words.to_owned(),
        }
    }
}

/// `max_memory_restart` → `maxMemoryRestart`.
#[must_use]
pub fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests;
