//! Points at which the daemon kills itself, for tests of the recovery of the next one. They exist only in programs that
//! were built for tests (feature `failpoints`).
//!
//! The variable `FAILPOINTS` of the daemon arms every God (`spawned=5%return;accepted=1*return`, the syntax of the
//! crate `fail`; `return` stands for `SIGKILL`). A file `failpoints` in the home folder with such a text arms only the
//! next God. A God that a point kills writes the name of the point to the file `killpoints` in the home folder.

use std::path::Path;

/// Arms the points of this process. To be called at its start, before the first point.
pub fn arm(home: &Path) {
    #[cfg(feature = "failpoints")]
    points::arm(home);
    #[cfg(not(feature = "failpoints"))]
    let _ = home;
}

/// Marks a point. If it is armed, the process is killed here.
#[inline]
pub fn pass(point: &'static str) {
    #[cfg(feature = "failpoints")]
    points::pass(point);
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}

/// True if a test armed this point. At such a point the process is not killed, but acts as if the kernel refused a
/// call.
#[must_use]
pub fn is_armed(point: &'static str) -> bool {
    #[cfg(feature = "failpoints")]
    return points::is_armed(point);
    #[cfg(not(feature = "failpoints"))]
    return {
        let _ = point;
        false
    };
}

#[cfg(feature = "failpoints")]
mod points {
    use std::fs::File;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The file to which points that kill are written; set once a point is armed.
    static NOTES: OnceLock<PathBuf> = OnceLock::new();

    pub fn arm(home: &Path) {
        let file = home.join("failpoints");
        let of_file = std::fs::read_to_string(&file).unwrap_or_default();
        // Removed before it takes effect, so that it takes effect once.
        let _ = std::fs::remove_file(file);
        let of_variable = std::env::var("FAILPOINTS").unwrap_or_default();
        for (point, actions) in [of_variable, of_file].iter().flat_map(|text| text.trim().split(';')).filter_map(split)
        {
            fail::cfg(point, actions).expect("FAILPOINTS can be read");
            NOTES.get_or_init(|| home.join("killpoints"));
        }
    }

    fn split(text: &str) -> Option<(&str, &str)> {
        text.split_once('=')
    }

    pub fn pass(point: &'static str) {
        if let Some(notes) = NOTES.get() {
            fail::fail_point!(point, |_| die(point, notes));
        }
    }

    pub fn is_armed(point: &'static str) -> bool {
        NOTES.get().is_some() && fail::eval(point, |_| true).unwrap_or(false)
    }

    fn die(point: &str, notes: &Path) {
        // Several threads may reach the point before the process is dead; only the first one writes a line.
        static DYING: AtomicBool = AtomicBool::new(false);
        while DYING.swap(true, Ordering::Relaxed) {
            // Until the first thread has killed the process.
            std::thread::park();
        }
        // A failure affects only the test that reads the file.
        let _ = File::options().append(true).create(true).open(notes).and_then(|mut file| writeln!(file, "{point}"));
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
