//! Settings of pmr itself (`pmr set`): `settings.json` in the home. Each reader reads the file when it needs a setting,
//! so the daemon has no copy and a change applies at once.

use std::fs;
use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::os::fs::replace;
use crate::paths::Home;
use crate::spec::target::similar;

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// After a reboot the daemon starts what ran before, whether it was saved or not.
    Autosave,
}

impl Setting {
    /// All settings, in the order in which `pmr set` lists them.
    pub const ALL: [Setting; 1] = [Setting::Autosave];

    /// Key in `settings.json` and on the command line.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Setting::Autosave => "autosave",
        }
    }

    /// Key of the same setting in PM2.
    fn alias(self) -> &'static str {
        match self {
            Setting::Autosave => "pm2:autodump",
        }
    }

    /// Finds a setting by its key or PM2's key.
    ///
    /// # Errors
    /// A sentence for the user, which names a similar key if there is one.
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

/// The values of all settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// See [`Setting::Autosave`].
    pub autosave: bool,
    /// Keys that this version does not know, such as those of a later one. Written back unchanged.
    unknown: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { autosave: true, unknown: Map::new() }
    }
}

impl Settings {
    /// Reads `settings.json`. A setting that is not in the file has its default.
    ///
    /// # Errors
    /// A sentence for the user, which names the file.
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

    /// Sets `setting` to the value that `text` stands for.
    ///
    /// # Errors
    /// A sentence for the user, which says what values there are.
    pub fn set(&mut self, setting: Setting, text: &str) -> Result<(), String> {
        match setting {
            Setting::Autosave => self.autosave = switch(setting, text)?,
        }
        Ok(())
    }

    /// The value as `pmr set` shows it.
    #[must_use]
    pub fn get(&self, setting: Setting) -> &'static str {
        match setting {
            Setting::Autosave if self.autosave => "on",
            Setting::Autosave => "off",
        }
    }

    /// Writes `settings.json` atomically, mode 0600.
    pub fn write(&self, home: &Home) -> io::Result<()> {
        let mut all = self.unknown.clone();
        all.insert(Setting::Autosave.key().to_owned(), Value::Bool(self.autosave));
        let text = format!("{:#}\n", Value::Object(all));
        replace::replace(&home.settings(), |file| file.write_all(text.as_bytes())).map(drop)
    }
}

fn switch(setting: Setting, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{}` is on or off, not `{text}`", setting.key())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_setting_that_was_written_is_read_back_and_the_default_is_on() {
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
    fn wrong_settings_are_errors_and_unknown_keys_are_kept() {
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
