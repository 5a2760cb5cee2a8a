//! The memory limit: a process above the limit is replaced.

use std::time::Duration;

use crate::support::{Home, app, example, http};

#[test]
fn a_process_above_its_memory_limit_is_restarted() {
    let home = Home::new();
    home.write("feast", "");
    home.ok(&format!("start {} --max-memory-restart 120M -- 200", app("hog.js")));
    assert_eq!(home.one("hog").env("max_memory_restart").as_u64(), Some(120 << 20));
    // No pid is compared: the process may be replaced before its pid is read.
    let rows = home.when("hog", "replaced by one that finds no feast", |rows| rows[0].online() && rows[0].restarts > 0);
    assert_eq!(rows[0].restarts, 1);
    home.daemon_logged("hog");
}

#[test]
fn a_process_below_its_limit_or_without_one_is_not_restarted() {
    let home = Home::new();
    let port = http::free_port();
    home.serve(port, &format!("{} --max-memory-restart 1G", example("http/server.js")));
    home.write("feast", "");
    home.ok(&format!("start {} -n free -- 150", app("hog.js")));
    let before: Vec<_> = home.list().into_iter().map(|row| row.pid).collect();
    // Longer than the sampling interval: this test needs the time itself.
    std::thread::sleep(Duration::from_secs(6));
    let after: Vec<_> = home.list().into_iter().map(|row| row.pid).collect();
    assert_eq!(before, after);
}
