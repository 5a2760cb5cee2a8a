//! An ecosystem file's value → drafts of apps.
