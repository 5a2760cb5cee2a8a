//! Redacts secrets: variables whose name says that they hold one, and addresses with a password. Lists get pasted into
//! chats and bug reports.

use std::borrow::Cow;
use std::collections::HashMap;

/// Shown instead of a secret.
pub const REDACTED: &str = "[redacted]";

const SECRET_WORDS: [&str; 10] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "CREDENTIAL",
];

/// True if a variable of this name probably holds a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || name.split('_').any(|word| word == "PASS" || word == "DSN")
        || (name.contains("AUTH") && !name.contains("AUTHOR"))
}

/// True if the value contains an address of the form `scheme://user:password@host`.
#[must_use]
pub fn has_password(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
    })
}

/// Arguments with redacted secrets: the value of `NAME=value` and of `--name value` if the name says so, and addresses
/// with a password.
pub fn args<'a>(args: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Cow<'a, str>> {
    let mut is_value = false;
    args.map(move |word| {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let has_secret_name = is_secret_name(&name.replace('-', "_"));
        let shown = match word.split_once('=') {
            _ if is_value => REDACTED.into(),
            Some((name, _)) if has_secret_name => format!("{name}={REDACTED}").into(),
            _ if has_password(word) => REDACTED.into(),
            _ => word.into(),
        };
        is_value = has_secret_name && !is_value && word.starts_with('-') && !word.contains('=');
        shown
    })
}

/// A command line with redacted secrets, by the rules of [`args`].
#[must_use]
pub fn command_line(line: &str) -> String {
    args(line.split(' ')).collect::<Vec<_>>().join(" ")
}

/// Redacts environments. The processes of a list have mostly the same variables, so the decision about a name is
/// cached.
pub struct Redactor<'a> {
    show_secrets: bool,
    known: HashMap<&'a str, bool>,
}

impl<'a> Redactor<'a> {
    /// A redactor that redacts nothing if `show_secrets`.
    #[must_use]
    pub fn new(show_secrets: bool) -> Redactor<'a> {
        Redactor { show_secrets, known: HashMap::new() }
    }

    /// The value, or [`REDACTED`].
    pub fn shown(&mut self, name: &'a str, value: &'a str) -> &'a str {
        if self.show_secrets || value.is_empty() {
            return value;
        }
        let has_secret_name = *self.known.entry(name).or_insert_with(|| is_secret_name(name));
        let is_secret = has_secret_name
            || (value.contains('@') && has_password(value))
            // For an app that is a command line, this variable has the whole line.
            || (name == "pm_exec_path" && value.contains(' ') && command_line(value) != value);
        if is_secret { REDACTED } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognised() {
        for name in [
            "DB_PASSWORD",
            "passwd",
            "CLIENT_SECRET",
            "GITHUB_TOKEN",
            "apiKey",
            "STRIPE_API_KEY",
            "SSH_PRIVATE_KEY",
            "GOOGLE_CREDENTIALS",
            "BASIC_AUTH",
            "DB_PASS",
            "AWS_ACCESS_KEY_ID",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PATH", "PWD", "GIT_AUTHOR_NAME", "PORT", "NODE_ENV", "COMPASS", "KEYBOARD"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn addresses_with_a_password_are_recognised() {
        for value in ["postgres://u:p@db/x", "redis://:p@h:6379", "a=1 amqp://g:g@h c", "http://u:p@x@h"] {
            assert!(has_password(value), "{value}");
        }
        for value in ["http://h:80/a@b:c", "me@example.org", "http://user@h", "postgres://u:@h", "a:b@c"] {
            assert!(!has_password(value), "{value}");
        }
    }

    #[test]
    fn secrets_in_arguments_are_redacted_and_nothing_else() {
        let shown = |line: &str| args(line.split(' ')).collect::<Vec<_>>().join(" ");
        for (line, expected) in [
            ("--port 80 --password=x -v", "--port 80 --password=[redacted] -v"),
            ("--api-key k --port 80", "--api-key [redacted] --port 80"),
            ("--token --secret --port", "--token [redacted] --port"),
            ("redis://:p@h API_TOKEN=x", "[redacted] API_TOKEN=[redacted]"),
        ] {
            assert_eq!(shown(line), expected);
        }
    }

    #[test]
    fn a_redactor_shows_secrets_only_if_it_is_set_to() {
        assert_eq!(Redactor::new(false).shown("pm_exec_path", "app --token x"), REDACTED);
        assert_eq!(Redactor::new(false).shown("pm_exec_path", "/srv/my app.js"), "/srv/my app.js");
        assert_eq!(Redactor::new(false).shown("TOKEN", "x"), REDACTED);
        assert_eq!(Redactor::new(false).shown("URL", "http://a:b@c"), REDACTED);
        assert_eq!(Redactor::new(false).shown("TOKEN", ""), "");
        assert_eq!(Redactor::new(true).shown("TOKEN", "x"), "x");
    }
}
