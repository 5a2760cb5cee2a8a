//! The text of the unit. Pure.

use std::path::{Path, PathBuf};

use super::{Boot, Scope};

/// What the unit file says.
#[must_use]
pub fn text(boot: &Boot) -> String {
    let program = exec_word(&boot.program);
    let (user, target) = match boot.scope {
        Scope::System => (format!("User={}\n", boot.user), "multi-user.target"),
        Scope::User => (String::new(), "default.target"),
    };
    format!(
        "[Unit]\n\
         Description=pmr, apps of {user_name}\n\
         {network}\n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         {user}\
         Environment={path}\n\
         Environment={home}\n\
         ExecStart={program} resurrect --no-daemon\n\
         ExecReload={program} reload all\n\
         ExecStop={program} kill\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         KillMode=mixed\n\
         TimeoutStartSec=300\n\
         TimeoutStopSec=120\n\
         LimitNOFILE=infinity\n\
         Delegate=yes\n\
         \n\
         [Install]\n\
         WantedBy={target}\n",
        user_name = boot.user.replace('%', "%%"),
        network = network(boot),
        path = quoted(&format!("PATH={}", boot.path)),
        home = quoted(&format!("PMR_HOME={}", boot.pmr_home.display())),
    )
}

/// Where the unit file belongs.
#[must_use]
pub fn file(boot: &Boot) -> PathBuf {
    let folder = match boot.scope {
        Scope::System => PathBuf::from("/etc/systemd/system"),
        Scope::User => boot.user_home.join(".config/systemd/user"),
    };
    folder.join(format!("{}.service", boot.service))
}

/// A user's manager knows no network targets.
fn network(boot: &Boot) -> &'static str {
    match (boot.scope, boot.wait_online) {
        (Scope::System, true) => "Wants=network-online.target\nAfter=network-online.target\n",
        (Scope::System, false) => "After=network.target\n",
        (Scope::User, _) => "",
    }
}

/// A word of an `Exec…` line: there `$` stands for variables too.
fn exec_word(path: &Path) -> String {
    quoted(&path.display().to_string().replace('$', "$$"))
}

/// A value between quotes where it needs them, with what systemd would read as a specifier or an escape doubled.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-.:=+@,$".contains(&byte);
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn boot(scope: Scope) -> Boot {
        Boot {
            user: "root".into(),
            user_home: "/root".into(),
            pmr_home: "/root/my apps/.pmr".into(),
            program: "/bin/true".into(),
            path: "/opt/node/bin:/usr/bin".into(),
            wait_online: false,
            scope,
            service: "pmr-root".into(),
        }
    }

    #[test]
    fn the_unit_of_the_system() {
        let expected = "[Unit]
Description=pmr, apps of root
After=network.target

[Service]
Type=notify
NotifyAccess=main
User=root
Environment=PATH=/opt/node/bin:/usr/bin
Environment=\"PMR_HOME=/root/my apps/.pmr\"
ExecStart=/bin/true resurrect --no-daemon
ExecReload=/bin/true reload all
ExecStop=/bin/true kill
Restart=on-failure
RestartSec=1
KillMode=mixed
TimeoutStartSec=300
TimeoutStopSec=120
LimitNOFILE=infinity
Delegate=yes

[Install]
WantedBy=multi-user.target
";
        assert_eq!(text(&boot(Scope::System)), expected);
    }

    #[test]
    fn the_unit_of_a_user_names_none() {
        let unit = text(&boot(Scope::User));
        assert!(!unit.contains("User=") && !unit.contains("After=") && unit.ends_with("WantedBy=default.target\n"));
        assert_eq!(file(&boot(Scope::User)), Path::new("/root/.config/systemd/user/pmr-root.service"));
    }

    #[test]
    fn special_characters_stay_what_they_are() {
        assert_eq!(quoted("A=50% \"x\" \\"), "\"A=50%% \\\"x\\\" \\\\\"");
        assert_eq!(exec_word(Path::new("/a $b/pmr")), "\"/a $$b/pmr\"");
    }

    #[test]
    fn systemd_finds_no_fault_with_it() {
        for (scope, wait_online) in [(Scope::System, false), (Scope::System, true), (Scope::User, false)] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("pmr-root.service");
            std::fs::write(&file, text(&Boot { wait_online, ..boot(scope) })).unwrap();
            let manager = if scope == Scope::User { "--user" } else { "--system" };
            let verify = Command::new("systemd-analyze").args(["verify", "--man=no", manager]).arg(&file).output();
            let Ok(verify) = verify else {
                // The harness shows this with --nocapture; a machine without systemd cannot check its units.
                let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: there is no systemd-analyze\n");
                return;
            };
            let words = String::from_utf8_lossy(&verify.stderr);
            let about_us: Vec<&str> = words.lines().filter(|line| line.contains("pmr-root")).collect();
            assert!(about_us.is_empty(), "{scope:?}: {about_us:?}");
        }
    }
}
