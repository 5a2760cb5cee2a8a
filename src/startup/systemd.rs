//! Putting a unit in place and taking it away.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use super::{Boot, Scope, unit};

/// True if systemd runs this system.
#[must_use]
pub fn runs_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// One thing that is done to the system, as it would be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step(Vec<String>);

impl Step {
    fn new(words: &[&str]) -> Step {
        Step(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// The command line.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.join(" ")
    }

    /// Does it. An error says what the command said.
    pub fn run(&self) -> Result<(), String> {
        let output = Command::new(&self.0[0])
            .args(&self.0[1..])
            .output()
            .map_err(|error| format!("`{}` could not be run: {error}", self.text()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{}` failed ({}): {}", self.text(), output.status, words.trim()))
    }
}

/// What has to be done once the unit file is in place.
#[must_use]
pub fn enabling(boot: &Boot) -> Vec<Step> {
    let mut steps = vec![systemctl(boot.scope, &["daemon-reload"]), systemctl(boot.scope, &["enable", &boot.service])];
    if boot.scope == Scope::User {
        // Without it the user's manager, and with it the apps, would start at login and end at logout.
        steps.push(Step::new(&["loginctl", "enable-linger", &boot.user]));
    }
    steps
}

/// What has to be done before the unit file is removed.
#[must_use]
pub fn disabling(boot: &Boot) -> Vec<Step> {
    vec![systemctl(boot.scope, &["disable", &boot.service])]
}

/// What has to be done after it is removed.
#[must_use]
pub fn forgetting(boot: &Boot) -> Vec<Step> {
    vec![systemctl(boot.scope, &["daemon-reload"])]
}

fn systemctl(scope: Scope, words: &[&str]) -> Step {
    let manager: &[&str] = match scope {
        Scope::System => &["systemctl"],
        Scope::User => &["systemctl", "--user"],
    };
    Step::new(&[manager, words].concat())
}

/// Writes the unit file, whole or not at all.
pub fn write(boot: &Boot) -> Result<(), String> {
    let file = unit::file(boot);
    let folder = file.parent().unwrap_or(Path::new("/"));
    put(folder, &file, &unit::text(boot)).map_err(|error| format!("writing {}: {error}", file.display()))
}

fn put(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut draft = tempfile::Builder::new().prefix(".pmr-").tempfile_in(folder)?;
    draft.write_all(text.as_bytes())?;
    draft.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    draft.as_file().sync_all()?;
    draft.persist(file)?;
    Ok(())
}

/// Removes the unit file; false if there was none.
pub fn remove(boot: &Boot) -> Result<bool, String> {
    let file = unit::file(boot);
    match fs::remove_file(&file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("removing {}: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn boot(scope: Scope, user_home: &Path) -> Boot {
        Boot {
            user: "ann".into(),
            user_home: user_home.into(),
            pmr_home: "/home/ann/.pmr".into(),
            program: "/usr/bin/pmr".into(),
            path: "/usr/bin".into(),
            wait_online: false,
            scope,
            service: "pmr-ann".into(),
        }
    }

    #[test]
    fn the_steps_are_what_one_would_type() {
        let words = |boot: &Boot| enabling(boot).iter().map(Step::text).collect::<Vec<_>>();
        let nowhere = Path::new("/nonexistent");
        assert_eq!(words(&boot(Scope::System, nowhere)), ["systemctl daemon-reload", "systemctl enable pmr-ann"]);
        assert_eq!(words(&boot(Scope::User, nowhere))[2], "loginctl enable-linger ann");
        assert_eq!(disabling(&boot(Scope::User, nowhere))[0].text(), "systemctl --user disable pmr-ann");
    }

    #[test]
    fn a_unit_is_written_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let boot = boot(Scope::User, home.path());
        write(&boot).unwrap();
        let file = unit::file(&boot);
        assert_eq!(fs::read_to_string(&file).unwrap(), unit::text(&boot));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
        assert_eq!((remove(&boot), remove(&boot)), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_failing_step_says_what_the_command_said() {
        let error = Step::new(&["sh", "-c", "echo no >&2; exit 3"]).run().unwrap_err();
        assert!(error.ends_with("(exit status: 3): no"), "{error}");
        assert!(Step::new(&["/nonexistent/x"]).run().unwrap_err().contains("could not be run"));
    }
}
