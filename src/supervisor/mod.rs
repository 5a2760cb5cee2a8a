//! God's mind: decides, does nothing.
