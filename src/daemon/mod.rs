//! God's hands: the daemon process around the pure supervisor.
