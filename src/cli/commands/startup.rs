//! `startup`: installs a unit that starts pmr and its apps at boot.

use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::cli::outcome::Outcome;
use crate::paths::Home;
use crate::settings::Settings;
use crate::startup::systemd::{self, Step};
use crate::startup::{Boot, Scope, boot_path, lasting_path, unit};

/// Start pmr and its apps at boot; asks for confirmation on a terminal
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr startup            installs the unit (as root), or shows how to\n  \
                        pmr startup --print    only shows it\n  pmr startup --user     for this user's own systemd, without root\n\n\
                        The boot starts the processes that ran last; after `pmr set autosave off`, the list that `pmr save` wrote.")]
pub struct Args {
    #[command(flatten)]
    unit: UnitArgs,
    /// Wait until the network is configured
    #[arg(long)]
    wait_ip: bool,
    /// Only show the unit
    #[arg(long)]
    print: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// The unit to install or remove: shared by `startup` and `unstartup`.
#[derive(clap::Args, Debug)]
pub struct UnitArgs {
    /// The init system; only systemd is supported
    #[arg(value_name = "SYSTEM", default_value = "systemd", hide_default_value = true)]
    system: String,
    /// The user who owns the apps; the current user if not given
    #[arg(short, value_name = "USER")]
    u: Option<String>,
    /// Home directory of that user; the daemon's home is `.pmr` in it
    #[arg(long, value_name = "HOME")]
    hp: Option<PathBuf>,
    /// Name of the unit; pmr-USER if not given
    #[arg(long, value_name = "NAME")]
    service_name: Option<String>,
    /// For the user's own systemd instead of the system's
    #[arg(long)]
    user: bool,
}

/// Runs the command. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let boot = Boot { wait_online: args.wait_ip, ..args.unit.boot(cx)? };
    if args.print {
        cx.ui.raw(unit::text(&boot).as_bytes());
        return Ok(Outcome::Done);
    }
    if !permitted("startup", &boot, cx)? {
        return Ok(Outcome::Incomplete);
    }
    cx.ui.show(&format!("{}:\n\n{}", unit::file(&boot).display(), unit::text(&boot)));
    if !args.yes && cx.ui.ask("Write this file and enable it?") == Some(false) {
        return Err(Failure::new("nothing was changed").hint("`-y` does it without asking, `--print` only shows it"));
    }
    systemd::write(&boot)?;
    cx.ui.info(&format!("wrote {}", unit::file(&boot).display()));
    carry_out(&systemd::enabling(&boot), cx)?;
    cx.ui.info(&at_boot(&boot, Settings::read(&Home::new(boot.pmr_home.clone()))?.autosave));
    Ok(Outcome::Done)
}

/// The sentence about what the next boot starts.
fn at_boot(boot: &Boot, autosave: bool) -> String {
    let what =
        if autosave { "the processes that ran last" } else { "the list that `pmr save` wrote last (autosave is off)" };
    format!("at boot {} starts {what}", boot.service)
}

/// Runs the commands and prints each once it has succeeded.
pub fn carry_out(steps: &[Step], cx: &Context) -> Result<(), Failure> {
    for step in steps {
        step.run()?;
        cx.ui.info(&step.text());
    }
    Ok(())
}

/// True if this user can change the unit. Otherwise prints what root must run.
pub fn permitted(verb: &str, boot: &Boot, cx: &Context) -> Result<bool, Failure> {
    if !systemd::runs_here() {
        return Err(Failure::new("systemd does not run this system").hint(
            "`pmr startup --print` shows the unit; other init systems and containers can run \
             `pmr resurrect --no-daemon`, which stays in the foreground",
        ));
    }
    if boot.scope == Scope::User || geteuid().is_root() {
        return Ok(true);
    }
    cx.ui.info("this takes root; run:");
    cx.ui.line(&as_root(verb, boot));
    Ok(false)
}

/// The command line with which root does the same for this user.
fn as_root(verb: &str, boot: &Boot) -> String {
    let program = boot.program.display();
    let mut line = format!("sudo env PATH={}", shell_quoted(&boot.path));
    if boot.pmr_home != boot.user_home.join(".pmr") {
        line.push_str(&format!(" PMR_HOME={}", shell_quoted(&boot.pmr_home.display().to_string())));
    }
    line.push_str(&format!(" {program} {verb} systemd -u {}", shell_quoted(&boot.user)));
    if boot.pmr_home == boot.user_home.join(".pmr") {
        line.push_str(&format!(" --hp {}", shell_quoted(&boot.user_home.display().to_string())));
    }
    if boot.service != format!("pmr-{}", boot.user) {
        line.push_str(&format!(" --service-name {}", shell_quoted(&boot.service)));
    }
    line
}

/// Quotes `text` as one word of a shell.
fn shell_quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-.:=+@,".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl UnitArgs {
    /// The content of the unit.
    pub fn boot(&self, cx: &Context) -> Result<Boot, Failure> {
        if self.system != "systemd" {
            return Err(Failure::new(format!("`{}` is not a supported init system: only systemd is", self.system))
                .hint("others can run `pmr resurrect --no-daemon`, which stays in the foreground"));
        }
        let user = self.account()?;
        let scope = if self.user { Scope::User } else { Scope::System };
        let exe = std::env::current_exe().doing(|| "finding this program".into())?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let service = self.service_name.as_deref().map(|name| name.trim_end_matches(".service").to_owned());
        let service = service.unwrap_or_else(|| format!("pmr-{}", user.name));
        if service.is_empty() || service.contains(['/', ' ', '%']) {
            return Err(Failure::new(format!("`{service}` cannot be the name of a unit")));
        }
        Ok(Boot {
            pmr_home: self.pmr_home(&user, cx),
            user_home: self.hp.clone().unwrap_or(user.dir),
            user: user.name,
            program: lasting_path(&exe, &path),
            path: boot_path(&path.to_string_lossy()),
            wait_online: false,
            scope,
            service,
        })
    }

    fn account(&self) -> Result<User, Failure> {
        let found = match &self.u {
            Some(name) => User::from_name(name),
            None => User::from_uid(geteuid()),
        };
        let name = || self.u.clone().unwrap_or_else(|| format!("number {}", geteuid()));
        found
            .map_err(|error| Failure::new(format!("looking up the user {}: {error}", name())))?
            .ok_or_else(|| Failure::new(format!("there is no user {}", name())))
    }

    /// The daemon's home: from `--hp`, else PMR_HOME, else the home directory of the user who owns the apps.
    fn pmr_home(&self, user: &User, cx: &Context) -> PathBuf {
        match &self.hp {
            Some(home) => std::path::absolute(home).unwrap_or_else(|_| home.clone()).join(".pmr"),
            None if std::env::var_os("PMR_HOME").is_some_and(|home| !home.is_empty()) => cx.home.root().to_owned(),
            None => Path::new(&user.dir).join(".pmr"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_for_root_has_path_user_and_home() {
        let mut boot = Boot {
            user: "ann".into(),
            user_home: "/home/ann".into(),
            pmr_home: "/home/ann/.pmr".into(),
            program: "/usr/local/bin/pmr".into(),
            path: "/opt/my node:/usr/bin".into(),
            wait_online: false,
            scope: Scope::System,
            service: "pmr-ann".into(),
        };
        let expected = "sudo env PATH='/opt/my node:/usr/bin' /usr/local/bin/pmr startup systemd -u ann --hp /home/ann";
        assert_eq!(as_root("startup", &boot), expected);
        assert_eq!(at_boot(&boot, true), "at boot pmr-ann starts the processes that ran last");
        assert!(at_boot(&boot, false).contains("`pmr save`"));
        boot.pmr_home = "/srv/pmr".into();
        boot.path = "/usr/bin".into();
        let expected = "sudo env PATH=/usr/bin PMR_HOME=/srv/pmr /usr/local/bin/pmr unstartup systemd -u ann";
        assert_eq!(as_root("unstartup", &boot), expected);
    }
}
