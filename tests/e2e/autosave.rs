//! Running apps are restored without `save`: the journal, the setting, the warning when saved and running lists differ,
//! and a full disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::eventually::until;
use crate::support::{Home, app, eventually, processes};

/// Ends the daemon by SIGTERM, as a shutdown of the machine does, and waits for its end.
fn shut_down(home: &Home) {
    processes::signal(home.daemon_pid(), Signal::SIGTERM);
    home.no_process_left();
}

/// Waits until the journal names an app.
fn wait_for_journal(home: &Home, name: &str) {
    let named = format!("\"name\":\"{name}\"");
    until("it is on disk", || {
        let bytes = std::fs::read(home.root().join("journal")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(&named)
    });
}

#[test]
fn running_apps_are_restored_without_save() {
    let home = Home::new();
    home.ok(&format!("start {} -n api -i 3 -- --x", app("tell.sh")));
    home.ok(&format!("start {} -n down", app("tell.sh")));
    home.ok(&format!("start {} -n gone", app("tell.sh")));
    home.ok("scale api 2");
    home.ok("stop down");
    home.ok("delete gone");
    shut_down(&home);
    home.ok("resurrect").says("this is what ran when the daemon last ended");
    let rows: Vec<_> = home.list().into_iter().map(|row| (row.id, row.name, row.status)).collect();
    let row = |id, name: &str, status: &str| (id, name.to_owned(), status.to_owned());
    assert_eq!(rows, [row(0, "api", "online"), row(1, "api", "online"), row(3, "down", "stopped")]);
    // Once more: the restored apps are in the journal of the new daemon.
    shut_down(&home);
    home.ok("resurrect");
    assert_eq!(home.list().len(), 3);
    assert!(!home.root().join("last.json").exists());
}

#[test]
fn running_apps_are_restored_after_a_power_failure() {
    let home = Home::new();
    home.ok(&format!("start {} -n api -i 2", app("tell.sh")));
    wait_for_journal(&home, "api");
    // Several rounds, because a process may start another while the rest is being killed.
    until("all are dead", || {
        let left = processes::of_home(home.root());
        left.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
        left.is_empty()
    });
    let journal = home.root().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend(*b"\x40\0\0\0half a frame");
    std::fs::write(&journal, bytes).unwrap();
    home.ok("resurrect");
    assert_eq!(home.of("api").iter().filter(|row| row.online()).count(), 2);
}

#[test]
fn the_next_god_continues_the_journal() {
    let home = Home::new();
    home.ok(&format!("start {} -n a", app("tell.sh")));
    wait_for_journal(&home, "a");
    let before = home.god_pid();
    processes::signal(before, Signal::SIGKILL);
    until("there is another", || !processes::lives(before));
    home.ok(&format!("start {} -n b", app("tell.sh")));
    wait_for_journal(&home, "b");
    assert!(!home.root().join("journal.before").exists(), "the journal goes on");
    shut_down(&home);
    home.ok("resurrect");
    assert_eq!(home.list().len(), 2);
}

#[test]
fn a_daemon_with_other_apps_keeps_the_list_before() {
    let home = Home::new();
    home.ok(&format!("start {} -n before", app("tell.sh")));
    home.ok("kill");
    home.ok(&format!("start {} -n other", app("tell.sh")));
    wait_for_journal(&home, "other");
    home.ok("resurrect").says("[before](");
    assert_eq!(home.list().len(), 2);
    home.ok("save");
    home.ok("delete all");
    home.ok("resurrect").says("dump.json");
    assert_eq!(home.list().len(), 2, "the saved list is restored after everything was deleted");
}

#[test]
fn the_autosave_setting_can_be_read_and_changed() {
    let home = Home::new();
    home.ok("get").says("autosave on");
    home.run("set autosaev off").code(1).complains("did you mean autosave?");
    home.run("set autosave maybe").refuses("`autosave` is on or off, not `maybe`");
    home.run("get nothing").code(1).complains("there is no setting `nothing`");
    assert!(!home.root().exists(), "asking makes nothing");
    home.ok("set autosave 0").says("autosave is off");
    assert_eq!(home.ok("get autosave").out, "off\n");
    assert!(!home.root().join("rpc.sock").exists(), "no daemon is needed for it");
}

#[test]
fn the_list_warns_when_running_and_saved_apps_differ() {
    let home = Home::new();
    let quiet = |when: &str| {
        let ran = home.ok("list");
        assert!(ran.err.is_empty(), "{when}: {}", ran.transcript());
    };
    home.ok(&format!("start {} -n a", app("tell.sh")));
    quiet("never saved");
    home.ok("save");
    quiet("saved");
    home.ok("restart a");
    quiet("a restart changes nothing");
    home.ok(&format!("start {} -n b", app("tell.sh")));
    home.ok("list")
        .complains("the processes that run differ from the saved list (")
        .complains("A reboot starts the processes that run now");
    home.ok("set autosave off");
    home.ok("list").complains("autosave is off: a reboot starts the saved list");
    let silent = home.ok("list -s");
    assert!(silent.err.is_empty(), "{}", silent.transcript());
    assert!(home.ok("jlist").err.is_empty());
    home.ok("kill");
    home.ok("resurrect");
    assert_eq!(home.list().len(), 1);
    quiet("the next daemon knows the saved list");
    home.ok("stop a");
    home.ok("list").complains("a reboot starts the saved list");
}

#[test]
fn a_broken_journal_is_set_aside_and_the_saved_list_is_used() {
    let home = Home::new();
    home.ok(&format!("start {} -n saved", app("tell.sh")));
    home.ok("save");
    home.ok(&format!("start {} -n unsaved", app("tell.sh")));
    home.ok("kill");
    let journal = home.root().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    home.ok("resurrect").says("journal could not be used").says("set aside as").says("dump.json");
    assert_eq!(home.list().len(), 1);
    let names = std::fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("journal.broken-")).count(), 1);
    home.ok("kill");
    home.ok("resurrect").says("this is what ran");
}

/// A small file system mounted on the home, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it. `None` where mounting is not allowed.
    fn under(folder: &Path) -> Option<Disk> {
        std::fs::create_dir(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m,mode=700", "none"]).arg(folder);
        mount.output().is_ok_and(|done| done.status.success()).then(|| Disk(folder.to_owned()))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_causes_a_warning_until_there_is_room() {
    let home = Home::new();
    let Some(disk) = Disk::under(home.root()) else { return };
    home.ok(&format!("start {} -n a", app("tell.sh")));
    wait_for_journal(&home, "a");
    let pid = home.one("a").pid;
    disk.fill();
    home.ok(&format!("start {} -n b", app("tell.sh")));
    let warning = "journal: No space left on device; running apps are not affected, but a reboot now would start";
    eventually("the daemon warns of the full disk", || {
        let ran = home.ok("ping");
        if ran.err.contains(warning) { Ok(()) } else { Err(ran.transcript()) }
    });
    home.ok("list").complains(warning).says("online");
    home.ok("describe b").complains(warning);
    home.run("save").refuses("No space left on device");
    home.ok("stop b");
    home.ok("start b");
    assert!(processes::lives(pid), "it runs on");
    disk.clear();
    eventually("the warning is gone", || {
        let ran = home.ok("ping");
        if ran.err.is_empty() { Ok(()) } else { Err(ran.transcript()) }
    });
    shut_down(&home);
    home.ok("resurrect");
    assert_eq!(home.list().len(), 2);
    home.ok("kill");
    home.no_process_left();
    drop(disk);
}
