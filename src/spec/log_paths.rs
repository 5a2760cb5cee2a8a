//! Where a process's output goes: PM2's file names.
