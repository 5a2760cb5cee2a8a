//! The history of a walk, printed when the walk fails.

use std::fmt::Debug;
use std::time::Instant;

/// The steps so far. When it is dropped during a panic, it prints all of them.
pub struct History {
    seed: u64,
    start: Instant,
    lines: Vec<String>,
}

impl History {
    pub fn new(seed: u64) -> History {
        History { seed, start: Instant::now(), lines: Vec::new() }
    }

    pub fn begin(&mut self, what: &impl Debug) {
        self.note(&format!("{what:?}"));
    }

    pub fn note(&mut self, what: &str) {
        let line = format!("{:3} {:7.2} s  {what}", self.lines.len(), self.start.elapsed().as_secs_f32());
        println!("{line}");
        self.lines.push(line);
    }

    pub fn finish(&mut self) {
        println!("seed {}: {} steps and rests in {:.0?}", self.seed, self.lines.len(), self.start.elapsed());
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the walk with PMR_CHAOS_SEED={}:\n{}", self.seed, self.lines.join("\n"));
        }
    }
}
