//! The messages of Node workers, parsed. Answers to connections come thousands a second: they are read without allocating.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::dealt::listen_request::ListenRequest;

/// One message of a worker.
#[derive(Debug)]
pub(crate) enum FromWorker<'a> {
    /// Node is up; the app's code has not run yet.
    Online,
    /// The worker asks to listen.
    Query(Box<ListenRequest<'a>>),
    /// The worker listens.
    Listening(Box<ListenRequest<'a>>),
    /// The worker closed a listener.
    Close {
        /// The key from the reply to its request.
        key: String,
    },
    /// The app called `worker.disconnect()`; the worker waits for the answer.
    Leaving {
        /// The message number, which the answer repeats.
        seq: u64,
    },
    /// The worker took a connection or refused it.
    Answer {
        /// The message number that the connection was sent with.
        ack: u64,
        /// True if it was taken.
        accepted: bool,
    },
    /// The worker read the oldest line with a file that was not acknowledged yet.
    HandleAck,
    /// That line arrived without its file.
    HandleNack,
    /// The app sent a file, with a message or without. The daemon must acknowledge it.
    Handle {
        /// The message; null if there is none.
        data: Value,
    },
    /// The preload module is loaded.
    Hello {
        /// `process.version`.
        version: String,
    },
    /// The preload module saw the last connection end.
    Drained,
    /// The preload module reports how many connections are open.
    Open {
        /// All of the worker, whether the daemon passed them or not.
        count: u32,
    },
    /// Another internal message, which the daemon has no use for.
    Unknown,
    /// What the app sent with `process.send`.
    User(Value),
}

/// The line is no JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

/// Enough of an internal message to tell what it is, and all of an answer.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    cmd: Cow<'a, str>,
    #[serde(borrow, default)]
    act: Cow<'a, str>,
    ack: Option<u64>,
    accepted: Option<bool>,
}

#[derive(Deserialize)]
struct KeyOf {
    key: String,
}

#[derive(Deserialize)]
struct SeqOf {
    seq: u64,
}

#[derive(Deserialize)]
struct CountOf {
    count: u32,
}

#[derive(Deserialize)]
struct VersionOf {
    version: String,
}

#[derive(Deserialize)]
struct MessageOf {
    #[serde(default)]
    msg: Value,
}

/// Parses a line.
///
/// # Errors
/// [`NotJson`] if it is no JSON.
pub(crate) fn parse(line: &[u8]) -> Result<FromWorker<'_>, NotJson> {
    // Internal messages contain NODE_, user messages hardly ever do: most are not parsed twice.
    if memchr::memmem::find(line, b"\"NODE_").is_some()
        && let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(line)
        && is_internal(&envelope.cmd)
    {
        return Ok(internal(line, &envelope).unwrap_or(FromWorker::Unknown));
    }
    match serde_json::from_slice::<Value>(line) {
        Ok(value) if value.get("cmd").and_then(Value::as_str).is_some_and(is_internal) => Ok(FromWorker::Unknown),
        Ok(value) => Ok(FromWorker::User(value)),
        Err(_) => Err(NotJson),
    }
}

/// Node's own rule for internal messages.
fn is_internal(cmd: &str) -> bool {
    cmd.len() > "NODE_".len() && cmd.starts_with("NODE_")
}

fn internal<'a>(line: &'a [u8], envelope: &Envelope<'_>) -> Option<FromWorker<'a>> {
    match envelope.cmd.as_ref() {
        "NODE_CLUSTER" => cluster(line, envelope),
        "NODE_HANDLE_ACK" => Some(FromWorker::HandleAck),
        "NODE_HANDLE_NACK" => Some(FromWorker::HandleNack),
        // A file with an unreadable message must be acknowledged as well: the worker waits.
        "NODE_HANDLE" => Some(FromWorker::Handle { data: read::<MessageOf>(line).map_or(Value::Null, |m| m.msg) }),
        "NODE_PMR" => match envelope.act.as_ref() {
            "hello" => Some(FromWorker::Hello { version: read::<VersionOf>(line)?.version }),
            "drained" => Some(FromWorker::Drained),
            "open" => Some(FromWorker::Open { count: read::<CountOf>(line)?.count }),
            _ => None,
        },
        _ => None,
    }
}

fn cluster<'a>(line: &'a [u8], envelope: &Envelope<'_>) -> Option<FromWorker<'a>> {
    if let (Some(ack), Some(accepted)) = (envelope.ack, envelope.accepted) {
        return Some(FromWorker::Answer { ack, accepted });
    }
    match envelope.act.as_ref() {
        "online" => Some(FromWorker::Online),
        "queryServer" => Some(FromWorker::Query(Box::new(read(line)?))),
        "listening" => Some(FromWorker::Listening(Box::new(read(line)?))),
        "close" => Some(FromWorker::Close { key: read::<KeyOf>(line)?.key }),
        "exitedAfterDisconnect" => Some(FromWorker::Leaving { seq: read::<SeqOf>(line)?.seq }),
        _ => None,
    }
}

fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::cluster::dealt::listen_request::{AddressType, Number};

    fn query(line: &str) -> ListenRequest<'_> {
        match parse(line.as_bytes()) {
            Ok(FromWorker::Query(query)) => *query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn internal_messages_are_recognized_by_their_act() {
        let answer = parse(br#"{"cmd":"NODE_CLUSTER","ack":7,"accepted":true,"seq":9}"#);
        assert!(matches!(answer, Ok(FromWorker::Answer { ack: 7, accepted: true })));
        assert!(matches!(parse(br#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#), Ok(FromWorker::Online)));
        let close = parse(br#"{"cmd":"NODE_CLUSTER","act":"close","key":"a:1","seq":3}"#);
        assert!(matches!(close, Ok(FromWorker::Close { key }) if key == "a:1"));
        let leaving = parse(br#"{"seq":4,"act":"exitedAfterDisconnect","cmd":"NODE_CLUSTER"}"#);
        assert!(matches!(leaving, Ok(FromWorker::Leaving { seq: 4 })), "in any order of keys");
        assert!(matches!(parse(br#"{"cmd":"NODE_HANDLE_ACK"}"#), Ok(FromWorker::HandleAck)));
        assert!(matches!(parse(br#"{"cmd":"NODE_WHATEVER","x":1}"#), Ok(FromWorker::Unknown)));
        assert!(matches!(parse(br#"{"cmd":"NODE_PMR","act":"open","count":3}"#), Ok(FromWorker::Open { count: 3 })));
        assert!(matches!(parse(br#"{"cmd":"NODE_PMR","act":"open","count":-3}"#), Ok(FromWorker::Unknown)));
        assert!(matches!(parse(br#"{"cmd":"NODE_CLUSTER","act":5}"#), Ok(FromWorker::Unknown)));
    }

    #[test]
    fn listen_requests_of_node_are_parsed() {
        let any = query(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":3000,"addressType":4,"backlog":0,"seq":1}"#,
        );
        assert_eq!((any.port, any.address_type, any.address), (Some(3000), Some(AddressType::V4), None));
        let host = query(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":2,"data":{"ticketKeys":"ab"},"address":"::1","port":0,"addressType":6,"flags":1,"backlog":false,"seq":1}"#,
        );
        assert_eq!(host.backlog.map(Number::value), Some(0));
        assert_eq!(host.data.map(RawValue::get), Some(r#"{"ticketKeys":"ab"}"#));
        let path = query(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","address":"/x.sock","port":-1,"addressType":-1,"writableAll":true,"seq":1}"#,
        );
        assert_eq!((path.address_type, path.writable_all), (Some(AddressType::Unix), Some(true)));
        let fd = query(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","address":null,"port":null,"addressType":null,"fd":9,"seq":1}"#,
        );
        assert_eq!((fd.address_type, fd.fd), (None, Some(9)));
    }

    #[test]
    fn user_messages_are_not_taken_for_internal_ones() {
        for (line, same) in [("\"ready\"", true), ("{\"cmd\":\"NODE_\"}", true), ("{\"x\":\"\\\"NODE_A\"}", true)] {
            assert_eq!(matches!(parse(line.as_bytes()), Ok(FromWorker::User(_))), same, "{line}");
        }
        assert!(matches!(parse(b"{\"cmd\":7,\"a\":\"NODE_X\"}"), Ok(FromWorker::User(_))));
        assert!(matches!(parse(b"nonsense"), Err(NotJson)));
        assert!(matches!(parse(b"\xff\xfe"), Err(NotJson)));
    }
}
