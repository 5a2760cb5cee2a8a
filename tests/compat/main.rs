//! What earlier builds wrote still loads. One folder for each format and version; files there are never changed, only
//! added: they stand for what lies on somebody's disk.

mod journals;
mod ledgers;
mod records;
