//! Points at which the daemon kills itself, for tests of what the next one finds. Only programs built for
//! tests have any (feature `failpoints`).
//!
//! The variable `FAILPOINTS` of the daemon arms every God (`spawned=5%return;accepted=1*return`, the syntax of the crate
//! `fail`; `return` stands for `SIGKILL`). A file `failpoints` in the home with such a text arms the next one alone. Who
//! dies so leaves the name of the point in the file `killpoints` of the home.

use std::path::Path;

/// Arms the points of this process. To be called when it has begun, before the first is passed.
pub fn arm(home: &Path) {
    #[cfg(feature = "failpoints")]
    points::arm(home);
    #[cfg(not(feature = "failpoints"))]
    let _ = home;
}

/// The program passes a point. One that is armed ends it here.
#[inline]
pub fn pass(point: &'static str) {
    #[cfg(feature = "failpoints")]
    points::pass(point);
    #[cfg(not(feature = "failpoints"))]
    let _ = point;
}

/// True if a test armed the point, at which nothing is killed: something is to be taken for impossible.
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

    /// Where points are noted that were fatal; set once one is armed.
    static NOTES: OnceLock<PathBuf> = OnceLock::new();

    pub fn arm(home: &Path) {
        let file = home.join("failpoints");
        let of_file = std::fs::read_to_string(&file).unwrap_or_default();
        // Gone before it works, so that it works once.
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
        // Several threads may pass it before the first is through with dying, and one death is one line.
        static DYING: AtomicBool = AtomicBool::new(false);
        while DYING.swap(true, Ordering::Relaxed) {
            // Until the first is through.
            std::thread::park();
        }
        // What is noted and what is not makes no difference to what follows.
        let _ = File::options().append(true).create(true).open(notes).and_then(|mut file| writeln!(file, "{point}"));
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
