//! Each framework and protocol on the installed Node, and all of them on all.

use std::sync::Mutex;
use std::{panic, thread};

use crate::load::Kind;
use crate::scenario::Case;

/// Every app of `examples/node`.
const APPS: [(&str, Kind); 10] = [
    ("express.js", Kind::Http),
    ("koa.js", Kind::Http),
    ("fastify.mjs", Kind::Http),
    ("hono.mjs", Kind::Http),
    ("nest.js", Kind::Http),
    ("http.js", Kind::Http),
    ("https.js", Kind::Https),
    ("http2.js", Kind::Http2),
    ("net.js", Kind::Net),
    ("ws.js", Kind::Ws),
];

fn check(case: Case) {
    println!("{}", case.run());
}

fn graceful(file: &str) -> Case {
    let (file, kind) = APPS.into_iter().find(|(name, _)| *name == file).expect("the table has all examples");
    Case::new(file, kind)
}

/// With and without a handler of SIGINT.
fn check_both(file: &str) {
    check(graceful(file));
    check(graceful(file).abrupt());
}

#[test]
fn express() {
    check(graceful("express.js"));
}

#[test]
fn koa() {
    check(graceful("koa.js").abrupt());
}

#[test]
fn fastify() {
    check(graceful("fastify.mjs"));
}

#[test]
fn hono() {
    check(graceful("hono.mjs").abrupt());
}

#[test]
fn nest() {
    check(graceful("nest.js"));
}

#[test]
fn plain_http() {
    check_both("http.js");
}

#[test]
fn https() {
    check(graceful("https.js"));
}

#[test]
fn http2() {
    check_both("http2.js");
}

#[test]
fn raw_net() {
    check_both("net.js");
}

#[test]
fn websockets() {
    check_both("ws.js");
}

#[test]
#[ignore = "long: every app, both kinds, on every Node version"]
fn the_whole_matrix() {
    println!(
        "| app | Node | on SIGINT | idle spread | lost by kill -9 | lost by 5 reloads, kept alive | new | a reload |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let nodes = [None, Some(18), Some(22), Some(24)];
    let cases = APPS.into_iter().flat_map(|(file, kind)| {
        nodes.into_iter().flat_map(move |node| [true, false].map(|graceful| Case { file, kind, node, graceful }))
    });
    let cases = Mutex::new(cases);
    let next = || cases.lock().expect("nothing panics while it is locked").next();
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = next() {
            if panic::catch_unwind(|| check(case)).is_err() {
                failed.lock().expect("nothing panics while it is locked").push(case);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let failed = failed.into_inner().expect("nothing panics while it is locked");
    assert!(failed.is_empty(), "{failed:#?}");
}
