//! Files written by earlier builds still load. There is one folder for each format and version. Its files are never
//! changed, only added: they stand for files on users' disks.

mod journals;
mod ledgers;
mod records;
