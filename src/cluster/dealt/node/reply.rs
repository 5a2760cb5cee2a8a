//! The messages to Node workers, as lines.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

/// The acknowledgement of a line that came with a file.
pub(crate) const HANDLE_ACK: &str = "{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
/// Asks the preload module to let its connections end.
pub(crate) const DRAIN: &str = "{\"cmd\":\"NODE_PMR\",\"act\":\"drain\"}\n";

/// Asks the preload module to report how many connections are open, from now on.
pub(crate) const COUNT: &str = "{\"cmd\":\"NODE_PMR\",\"act\":\"count\"}\n";

/// A connection, sent with its socket. `key` is JSON already.
pub(crate) fn new_connection(key: &str, seq: u64) -> String {
    let mut line = String::with_capacity(96 + key.len());
    let _ = writeln!(
        line,
        r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","act":"newconn","key":{key},"seq":{seq}}}}}"#
    );
    line
}

/// The sync message: a connection for a listener that does not exist. The worker refuses it, after all it was sent before.
/// It is sent with a socket, too, since Node closes the socket of a refused connection without checking that there is one.
pub(crate) fn sync(seq: u64) -> String {
    new_connection("\"\"", seq)
}

/// Tells a worker to close its servers and disconnect. It runs on as long as it has something to do.
pub(crate) fn disconnect(seq: u64) -> String {
    format!("{{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":{seq}}}\n")
}

/// An answer without content.
pub(crate) fn acknowledge(ack: u64, seq: u64) -> String {
    format!("{{\"cmd\":\"NODE_CLUSTER\",\"ack\":{ack},\"seq\":{seq}}}\n")
}

/// The answer to a request to listen that failed. `errno` is positive, as the kernel's.
pub(crate) fn failed(ack: u64, errno: i32, key: &str, seq: u64) -> String {
    format!(
        "{{\"cmd\":\"NODE_CLUSTER\",\"ack\":{ack},\"errno\":{},\"key\":{key},\"data\":null,\"seq\":{seq}}}\n",
        -errno.abs()
    )
}

/// The answer to a request to listen where the daemon accepts.
pub(crate) fn listening(ack: u64, key: &str, data: &str, at: Option<SocketAddr>, seq: u64) -> String {
    let mut line = format!("{{\"cmd\":\"NODE_CLUSTER\",\"ack\":{ack},\"errno\":null,\"key\":{key},\"data\":{data}");
    if let Some(at) = at {
        let family = if at.is_ipv6() { "IPv6" } else { "IPv4" };
        let (ip, port) = (at.ip(), at.port());
        let _ = write!(line, r#","sockname":{{"address":"{ip}","family":"{family}","port":{port}}}"#);
    }
    let _ = writeln!(line, ",\"seq\":{seq}}}");
    line
}

/// The answer to a request to listen where the worker accepts by itself, sent with the listening socket.
pub(crate) fn shared(ack: u64, key: &str, data: &str, udp: bool, seq: u64) -> String {
    let kind = if udp { "dgram.Native" } else { "net.Native" };
    format!(
        "{{\"cmd\":\"NODE_HANDLE\",\"type\":\"{kind}\",\"msg\":{{\"cmd\":\"NODE_CLUSTER\",\"ack\":{ack},\"errno\":0,\"key\":{key},\"data\":{data},\"seq\":{seq}}}}}\n"
    )
}

/// A message to the app. JSON has no raw newlines, so it is one line.
pub(crate) fn user(message: &Value) -> String {
    format!("{message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_one_line_of_json() {
        let at = "[::]:3000".parse().unwrap();
        let lines = [
            HANDLE_ACK.to_owned(),
            DRAIN.to_owned(),
            COUNT.to_owned(),
            new_connection("\"a \\\" b\"", 1),
            sync(1),
            disconnect(2),
            acknowledge(3, 4),
            failed(1, 98, "\"k\"", 2),
            listening(1, "\"k\"", "{\"ticketKeys\":\"x\"}", Some(at), 2),
            listening(1, "\"k\"", "null", None, 2),
            shared(1, "\"k\"", "null", true, 2),
            user(&serde_json::json!({"text": "two\nlines"})),
        ];
        for line in lines {
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.ends_with('\n'));
            serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(failed(1, 98, "\"k\"", 2).contains("\"errno\":-98"));
    }
}
