//! What the user sets for pmr itself (`pmr set`): `settings.json` in the home. Read when it is needed, by whoever needs
//! it, so that there is nothing to tell the daemon and a change holds at once.

use std::fs;
use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::os::fs::replace;
use crate::paths::Home;
use crate::spec::target::similar;

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// What runs comes back after a reboot, saved or not.
    Autosave,
}

impl Setting {
    /// All there are.
    pub const ALL: [Setting; 1] = [Setting::Autosave];

    /// Its key.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Setting::Autosave => "autosave",
        }
    }

    /// The key the same thing has in PM2.
    fn alias(self) -> &'static str {
        match self {
            Setting::Autosave => "pm2:autodump",
        }
    }

    /// The setting of this key, or a sentence.
    pub fn parse(text: &str) -> Result<Setting, String> {
        let known = Setting::ALL.into_iter().find(|setting| [setting.key(), setting.alias()].contains(&text));
        known.ok_or_else(|| {
            let keys = Setting::ALL.map(Setting::key);
            match similar(text, &keys).first() {
                Some(close) => format!("there is no setting `{text}`; did you mean {close}?"),
                None => format!("there is no setting `{text}`, only: {}", keys.join(", ")),
            }
        })
    }
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`Setting::Autosave`].
    pub autosave: bool,
    /// What a later version may have set: kept as it is.
    unknown: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { autosave: true, unknown: Map::new() }
    }
}

impl Settings {
    /// Reads them; those that nobody set are as they are by default. The error is a sentence.
    pub fn read(home: &Home) -> Result<Settings, String> {
        let path = home.settings();
        let at = |why: String| format!("{}: {why}", path.display());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(error) => return Err(at(error.to_string())),
        };
        let mut unknown: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| at(error.to_string()))?;
        let autosave = match unknown.remove(Setting::Autosave.key()) {
            None => true,
            Some(Value::Bool(on)) => on,
            Some(other) => return Err(at(format!("`autosave` is true or false, not {other}"))),
        };
        Ok(Settings { autosave, unknown })
    }

    /// Sets one from a word; the error is a sentence.
    pub fn set(&mut self, setting: Setting, word: &str) -> Result<(), String> {
        match setting {
            Setting::Autosave => self.autosave = switch(setting, word)?,
        }
        Ok(())
    }

    /// One as a word.
    #[must_use]
    pub fn get(&self, setting: Setting) -> &'static str {
        match setting {
            Setting::Autosave if self.autosave => "on",
            Setting::Autosave => "off",
        }
    }

    /// Writes them.
    pub fn write(&self, home: &Home) -> io::Result<()> {
        let mut all = self.unknown.clone();
        all.insert(Setting::Autosave.key().to_owned(), Value::Bool(self.autosave));
        let text = format!("{:#}\n", Value::Object(all));
        replace::replace(&home.settings(), |file| file.write_all(text.as_bytes())).map(drop)
    }
}

fn switch(setting: Setting, word: &str) -> Result<bool, String> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{}` is on or off, not `{word}`", setting.key())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_set_stays_and_what_is_not_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        let mut settings = Settings::read(&home).unwrap();
        assert!(settings.autosave);
        settings.set(Setting::Autosave, "False").unwrap();
        settings.write(&home).unwrap();
        assert_eq!(Settings::read(&home).unwrap(), settings);
        assert_eq!(fs::metadata(home.settings()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), "{\n  \"autosave\": false\n}\n");
    }

    #[test]
    fn mistakes_are_told_and_nothing_of_a_later_version_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().to_owned());
        assert_eq!(Setting::parse("pm2:autodump"), Ok(Setting::Autosave));
        assert_eq!(Setting::parse("autosav").unwrap_err(), "there is no setting `autosav`; did you mean autosave?");
        assert_eq!(Setting::parse("x").unwrap_err(), "there is no setting `x`, only: autosave");
        let mut settings = Settings::default();
        assert_eq!(settings.set(Setting::Autosave, "maybe").unwrap_err(), "`autosave` is on or off, not `maybe`");
        fs::write(home.settings(), "{\"novelty\": 7}").unwrap();
        Settings::read(&home).unwrap().write(&home).unwrap();
        assert!(fs::read_to_string(home.settings()).unwrap().contains("\"novelty\": 7"));
        for broken in ["{", "{\"autosave\": 1}", "[]"] {
            fs::write(home.settings(), broken).unwrap();
            assert!(Settings::read(&home).unwrap_err().contains("settings.json: "), "{broken}");
        }
    }
}
