//! Each framework and protocol on the installed Node, and all of them on all.

use std::sync::Mutex;
use std::{panic, thread};

use crate::load::Kind;
use crate::story::Case;

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

fn told(case: Case) {
    println!("{}", case.tell());
}

fn graceful(file: &str) -> Case {
    let (file, kind) = APPS.into_iter().find(|(name, _)| *name == file).expect("the table has all examples");
    Case::new(file, kind)
}

/// With and without a handler of SIGINT.
fn told_both(file: &str) {
    told(graceful(file));
    told(graceful(file).abrupt());
}

#[test]
fn express() {
    told(graceful("express.js"));
}

#[test]
fn koa() {
    told(graceful("koa.js").abrupt());
}

#[test]
fn fastify() {
    told(graceful("fastify.mjs"));
}

#[test]
fn hono() {
    told(graceful("hono.mjs").abrupt());
}

#[test]
fn nest() {
    told(graceful("nest.js"));
}

#[test]
fn plain_http() {
    told_both("http.js");
}

#[test]
fn https() {
    told(graceful("https.js"));
}

#[test]
fn http2() {
    told_both("http2.js");
}

#[test]
fn raw_net() {
    told_both("net.js");
}

#[test]
fn websockets() {
    told_both("ws.js");
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
            if panic::catch_unwind(|| told(case)).is_err() {
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
