//! `pmr demo`: what pmr does, shown in seconds on a machine that has nothing but pmr.

mod channel;
pub mod load;
pub mod worker;
