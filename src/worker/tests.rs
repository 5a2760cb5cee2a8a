//! The library against a daemon played by the test.
