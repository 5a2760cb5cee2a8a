//! How a client is turned away that has waited for too long.

use std::os::fd::AsFd;

use crate::os::connection;
use crate::spec::Shed;

/// The plainest answer that browsers, proxies and load balancers understand (RFC 9110, 15.6.4).
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: text/plain\r\nContent-Length: 33\r\n\r\nNo worker is ready, please retry.";

/// Says what the app's owner wants said, if anything, and no more. Never waits.
pub(super) fn turn_away(connection: impl AsFd, how: Shed) {
    let words = match how {
        Shed::Answer => UNAVAILABLE,
        Shed::Close => b"",
    };
    connection::dismiss(connection, words);
}
