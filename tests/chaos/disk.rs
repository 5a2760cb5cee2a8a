//! A small file system for a home, which a walk can fill. Mounting it takes privileges.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Large enough for all logs of a walk.
const SIZE: &str = "size=48m";

/// A mounted file system, unmounted when dropped.
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts a file system at a new folder. `None` if mounting is not allowed here.
    pub fn mount(at: &Path) -> Option<Disk> {
        std::fs::create_dir(at).expect("it is new");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "none"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Disk { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Fills the disk to the last byte.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a file can be made");
        let chunk = vec![0; 1 << 16];
        while file.write_all(&chunk).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: files that are still open stay until their processes close them.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}
