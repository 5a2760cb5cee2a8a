//! What of a cluster outlives God: its record in the ledger, the files it keeps open, and the way back from both.

pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod store;
