//! The runs that are alive: the table of them, their health checks, what they report, and their rate of errors.

pub(crate) mod health;
pub(crate) mod notify;
pub(crate) mod stderr_rate;
pub(crate) mod table;
