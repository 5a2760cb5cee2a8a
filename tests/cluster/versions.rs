//! The Node versions that npm packages ship, each with another app: `frameworks` has a test for all of them on all.

use crate::load::Kind;
use crate::story::Case;

fn told(case: Case) {
    println!("{}", case.tell());
}

#[test]
fn node_18() {
    told(Case::new("express.js", Kind::Http).on(18));
    told(Case::new("http2.js", Kind::Http2).on(18));
}

#[test]
fn node_22() {
    told(Case::new("fastify.mjs", Kind::Http).on(22));
}

#[test]
fn node_24() {
    told(Case::new("http.js", Kind::Http).on(24).abrupt());
}
