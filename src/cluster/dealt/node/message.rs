//! What workers say, parsed. Answers to connections come thousands a second: they are read without allocating.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One line of a worker.
#[derive(Debug)]
pub(crate) enum FromWorker<'a> {
    /// Node is up; the app's code has not run yet.
    Online,
    /// It wants to listen.
    Query(Box<Query<'a>>),
    /// It listens.
    Listening(Box<Query<'a>>),
    /// It closed the listener of this key.
    Close {
        /// As we gave it.
        key: String,
    },
    /// The app called `worker.disconnect()` and waits for our answer.
    Leaving {
        /// To be answered.
        seq: u64,
    },
    /// It took a connection or turned it down.
    Answer {
        /// The number we sent the connection with.
        ack: u64,
        /// Taken.
        accepted: bool,
    },
    /// It read the oldest line with a file that was not acknowledged yet.
    HandleAck,
    /// That line came without its file.
    HandleNack,
    /// The app sent a file, with a message or without. We must acknowledge it.
    Handle {
        /// The message.
        data: Value,
    },
    /// Our preload is in.
    Hello {
        /// `process.version`.
        version: String,
    },
    /// Our preload saw the last connection end.
    Drained,
    /// Our preload has counted so many open connections.
    Open {
        /// All of them, whoever accepted them.
        count: u32,
    },
    /// Some other internal message: not for us.
    Unknown,
    /// What the app sent with `process.send`.
    User(Value),
}

/// The line was no JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbage;

/// How a worker wants to listen.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Query<'a> {
    /// To be answered.
    pub(crate) seq: u64,
    /// Counts equal calls in that worker; matters with port 0.
    pub(crate) index: u64,
    /// IP address or path; none for any address.
    pub(crate) address: Option<String>,
    /// -1 with a path.
    pub(crate) port: Option<i64>,
    /// What kind of socket; none with a file descriptor.
    pub(crate) address_type: Option<AddressType>,
    /// A file descriptor of the primary, or -1.
    pub(crate) fd: Option<i64>,
    /// Of libuv.
    pub(crate) flags: Option<u32>,
    /// Node says false where it means nothing.
    pub(crate) backlog: Option<Number>,
    /// chmod of a path.
    pub(crate) readable_all: Option<bool>,
    /// chmod of a path.
    pub(crate) writable_all: Option<bool>,
    /// TLS ticket keys: all workers are to have those of the first.
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
}

/// What kind of socket a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressType {
    /// TCP over IPv4, or over whatever there is if no address is given.
    V4,
    /// TCP over IPv6.
    V6,
    /// A Unix path.
    Unix,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

impl AddressType {
    fn parse(value: &Value) -> Option<AddressType> {
        match value {
            Value::String(word) if word == "udp4" => Some(AddressType::Udp4),
            Value::String(word) if word == "udp6" => Some(AddressType::Udp6),
            Value::Number(number) => match number.as_i64() {
                Some(4) => Some(AddressType::V4),
                Some(6) => Some(AddressType::V6),
                Some(-1) => Some(AddressType::Unix),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for AddressType {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<AddressType, D::Error> {
        let value = Value::deserialize(from)?;
        AddressType::parse(&value).ok_or_else(|| serde::de::Error::custom("unknown address type"))
    }
}

/// A number, or one of the things JavaScript code passes for one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    /// A number.
    Is(i64),
    /// `false`, most often.
    Not(bool),
}

impl Number {
    /// Its value; `false` is 0.
    pub(crate) fn value(self) -> i64 {
        match self {
            Number::Is(number) => number,
            Number::Not(truth) => i64::from(truth),
        }
    }
}

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

/// Reads a line.
///
/// # Errors
/// [`Garbage`] if it is no JSON.
pub(crate) fn parse(line: &[u8]) -> Result<FromWorker<'_>, Garbage> {
    // Internal messages say NODE_ somewhere, user messages hardly ever do: most are spared a second look.
    if memchr::memmem::find(line, b"\"NODE_").is_some()
        && let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(line)
        && is_internal(&envelope.cmd)
    {
        return Ok(internal(line, &envelope).unwrap_or(FromWorker::Unknown));
    }
    match serde_json::from_slice::<Value>(line) {
        Ok(value) if value.get("cmd").and_then(Value::as_str).is_some_and(is_internal) => Ok(FromWorker::Unknown),
        Ok(value) => Ok(FromWorker::User(value)),
        Err(_) => Err(Garbage),
    }
}

/// Node's own rule.
fn is_internal(cmd: &str) -> bool {
    cmd.len() > "NODE_".len() && cmd.starts_with("NODE_")
}

fn internal<'a>(line: &'a [u8], envelope: &Envelope<'_>) -> Option<FromWorker<'a>> {
    match envelope.cmd.as_ref() {
        "NODE_CLUSTER" => cluster(line, envelope),
        "NODE_HANDLE_ACK" => Some(FromWorker::HandleAck),
        "NODE_HANDLE_NACK" => Some(FromWorker::HandleNack),
        // Even one that makes no sense must be acknowledged: the worker waits.
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
    use super::*;

    fn query(line: &str) -> Query<'_> {
        match parse(line.as_bytes()) {
            Ok(FromWorker::Query(query)) => *query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_and_acts() {
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
    fn queries_as_node_words_them() {
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
    fn user_messages_stay_what_they_are() {
        for (line, same) in [("\"ready\"", true), ("{\"cmd\":\"NODE_\"}", true), ("{\"x\":\"\\\"NODE_A\"}", true)] {
            assert_eq!(matches!(parse(line.as_bytes()), Ok(FromWorker::User(_))), same, "{line}");
        }
        assert!(matches!(parse(b"{\"cmd\":7,\"a\":\"NODE_X\"}"), Ok(FromWorker::User(_))));
        assert!(matches!(parse(b"nonsense"), Err(Garbage)));
        assert!(matches!(parse(b"\xff\xfe"), Err(Garbage)));
    }
}
