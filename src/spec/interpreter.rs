//! Which interpreter runs which script.
