//! Each framework and protocol on the installed Node, and all of them on all.

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

fn both(app: usize) {
    let (file, kind) = APPS[app];
    for case in [Case::new(file, kind), Case::new(file, kind).abrupt()] {
        println!("{}", case.tell());
    }
}

#[test]
fn express() {
    both(0);
}

#[test]
fn koa() {
    both(1);
}

#[test]
fn fastify() {
    both(2);
}

#[test]
fn hono() {
    both(3);
}

#[test]
fn nest() {
    both(4);
}

#[test]
fn plain_http() {
    both(5);
}

#[test]
fn https() {
    both(6);
}

#[test]
fn http2() {
    both(7);
}

#[test]
fn raw_net() {
    both(8);
}

#[test]
fn websockets() {
    both(9);
}

#[test]
#[ignore = "ten minutes: every app, both kinds, on every Node version"]
fn the_whole_matrix() {
    println!("| app | Node | on SIGINT | idle spread | failed by kill -9 | reload ×5, kept alive | new | a reload |");
    println!("|---|---|---|---|---|---|---|---|");
    for (file, kind) in APPS {
        for node in [None, Some(18), Some(22), Some(24)] {
            for graceful in [true, false] {
                println!("{}", Case { file, kind, node, graceful }.tell());
            }
        }
    }
}
