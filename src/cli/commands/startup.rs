//! `startup`: have the system start pmr, and with it what ran last or was saved, at boot.

use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::cli::outcome::Outcome;
use crate::paths::Home;
use crate::settings::Settings;
use crate::startup::systemd::{self, Step};
use crate::startup::{Boot, Scope, boot_path, lasting_path, unit};

/// Have the system start pmr at boot, with what ran before or was saved; asks first when somebody is there to answer
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pmr startup            installs the unit (as root), or says how to\n  \
                        pmr startup --print    only shows it\n  pmr startup --user     for this user's own systemd, without root\n\n\
                        What ran last is started. After `pmr set autosave off` it is what `pmr save` wrote last.")]
pub struct Args {
    #[command(flatten)]
    place: Place,
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

/// Which unit is meant: shared by `startup` and `unstartup`.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// The init system; only systemd is known
    #[arg(value_name = "SYSTEM", default_value = "systemd", hide_default_value = true)]
    system: String,
    /// Whose apps; you if not given
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

/// Carries the command out. The outcome decides the exit code.
pub fn run(args: &Args, cx: &Context) -> Result<Outcome, Failure> {
    let boot = Boot { wait_online: args.wait_ip, ..args.place.boot(cx)? };
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
    cx.ui.say(&format!("wrote {}", unit::file(&boot).display()));
    carry_out(&systemd::enabling(&boot), cx)?;
    cx.ui.say(&at_boot(&boot, Settings::read(&Home::new(boot.pmr_home.clone()))?.autosave));
    Ok(Outcome::Done)
}

/// Says what comes back at the next boot.
fn at_boot(boot: &Boot, autosave: bool) -> String {
    let what = if autosave { "what ran last" } else { "what `pmr save` wrote last (autosave is off)" };
    format!("at boot {} starts {what}", boot.service)
}

/// Runs the commands and prints each once it has succeeded.
pub fn carry_out(steps: &[Step], cx: &Context) -> Result<(), Failure> {
    for step in steps {
        step.run()?;
        cx.ui.say(&step.text());
    }
    Ok(())
}

/// True if the unit can be changed by this user. Otherwise it has been said who can: false.
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
    cx.ui.say("this takes root; run:");
    cx.ui.line(&as_root(verb, boot));
    Ok(false)
}

/// What to type so that root does the same for this user.
fn as_root(verb: &str, boot: &Boot) -> String {
    let program = boot.program.display();
    let mut line = format!("sudo env PATH={}", word(&boot.path));
    if boot.pmr_home != boot.user_home.join(".pmr") {
        line.push_str(&format!(" PMR_HOME={}", word(&boot.pmr_home.display().to_string())));
    }
    line.push_str(&format!(" {program} {verb} systemd -u {}", word(&boot.user)));
    if boot.pmr_home == boot.user_home.join(".pmr") {
        line.push_str(&format!(" --hp {}", word(&boot.user_home.display().to_string())));
    }
    if boot.service != format!("pmr-{}", boot.user) {
        line.push_str(&format!(" --service-name {}", word(&boot.service)));
    }
    line
}

/// One word for a shell.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-.:=+@,".contains(&byte);
    if text.bytes().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl Place {
    /// What the unit says.
    pub fn boot(&self, cx: &Context) -> Result<Boot, Failure> {
        if self.system != "systemd" {
            return Err(Failure::new(format!("`{}` is not an init system pmr knows: there is systemd", self.system))
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
        let asked = || self.u.clone().unwrap_or_else(|| format!("number {}", geteuid()));
        found
            .map_err(|error| Failure::new(format!("looking up the user {}: {error}", asked())))?
            .ok_or_else(|| Failure::new(format!("there is no user {}", asked())))
    }

    /// `--hp` wins, then a PMR_HOME that was set on purpose, then the home of whose apps they are.
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
    fn the_line_for_root_says_all_it_needs() {
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
        assert_eq!(at_boot(&boot, true), "at boot pmr-ann starts what ran last");
        assert!(at_boot(&boot, false).contains("`pmr save`"));
        boot.pmr_home = "/srv/pmr".into();
        boot.path = "/usr/bin".into();
        let expected = "sudo env PATH=/usr/bin PMR_HOME=/srv/pmr /usr/local/bin/pmr unstartup systemd -u ann";
        assert_eq!(as_root("unstartup", &boot), expected);
    }
}
