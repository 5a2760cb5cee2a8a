//! The Node versions that npm packages ship, each with another app. `frameworks` has a test of all apps on all
//! versions.

use crate::load::Kind;
use crate::scenario::Case;

fn check(case: Case) {
    println!("{}", case.run());
}

#[test]
fn node_18() {
    check(Case::new("express.js", Kind::Http).on(18));
    check(Case::new("http2.js", Kind::Http2).on(18));
}

#[test]
fn node_22() {
    check(Case::new("fastify.mjs", Kind::Http).on(22));
}

#[test]
fn node_24() {
    check(Case::new("http.js", Kind::Http).on(24).abrupt());
}
