//! pmr's own worker protocol, byte by byte. PURE: bytes to values and back.
//!
//! It lets programs in any language get their connections from the daemon: in exact turn, with backpressure, and
//! without a lost connection when either side dies. Version 1.
//!
//! The number of the channel's descriptor is in the environment variable `PMR_CHANNEL_FD`: one end of a connected
//! `AF_UNIX` `SOCK_SEQPACKET` socket pair, in blocking mode. A message is one packet: a `recvmsg` with room for
//! [`PACKET`] bytes returns it whole. All integers are little-endian. Each message begins with eight bytes:
//!
//! ```text
//! offset  size  what
//!      0     2  kind    what message this is
//!      2     2  small   its meaning depends on the kind, else 0
//!      4     4  index   its meaning depends on the kind, else 0
//!      8        the body
//! ```
//!
//! A message of an unknown kind is ignored, and so are bytes after those described here. No packet is empty, and no
//! packet is longer than [`PACKET`].
//!
//! From the worker:
//!
//! | kind | name    | small   | index         | body |
//! |------|---------|---------|---------------|------|
//! | 1    | HELLO   | version | `0x31524d50`  | |
//! | 2    | LISTEN  | backlog | the listener  | the address as text, to the end of the packet |
//! | 3    | CLOSE   | 0       | the listener  | |
//! | 4    | STATUS  | 0       | open          | credit u32, 0 u32, taken u64, token u64 |
//! | 5    | REFUSE  | 0       | 0             | number u64 |
//! | 6    | READY   | 0       | 0             | |
//! | 7    | DRAINED | 0       | 0             | |
//!
//! From the daemon:
//!
//! | kind | name        | small   | index        | body |
//! |------|-------------|---------|--------------|------|
//! | 129  | WELCOME     | version | most         | |
//! | 130  | UNWELCOME   | oldest  | newest       | |
//! | 131  | LISTENING   | errno   | the listener | the address as text, to the end of the packet |
//! | 132  | CONNECTIONS | count   | the listener | count numbers u64; with it come count files by `SCM_RIGHTS` |
//! | 133  | SYNC        | 0       | 0            | token u64 |
//! | 134  | DRAIN       | 0       | 0            | |
//!
//! ```text
//! worker                                        daemon
//!   HELLO version 1                ──►
//!                                  ◄──          WELCOME version 1, most 16
//!   LISTEN 0 "127.0.0.1:3000"      ──►
//!                                  ◄──          LISTENING 0 errno 0 "127.0.0.1:3000"
//!   STATUS open 0 credit 16 taken 0 ──►
//!                                  ◄──          CONNECTIONS 0 [7, 9] + two files
//!   STATUS open 2 credit 16 taken 9 ──►
//!   STATUS open 1 ..               ──►          (one has ended)
//!                                  ◄──          DRAIN
//!   STATUS open 0 .., DRAINED      ──►
//! ```
//!
//! - HELLO is the first message, sent once; the daemon ignores messages before it. The daemon answers WELCOME with the
//!   version that is spoken from then on and the most connections it puts into one message, which is never more than
//!   [`MOST`]. It answers a version that it does not speak with UNWELCOME and the oldest and newest version that it
//!   does; no other message follows.
//! - LISTEN: the worker chooses the number of the listener. The address is `host:port` with a numeric host,
//!   `[v6]:port`, `:port` for all addresses, or the absolute path of a Unix socket. Port 0 is a port of the kernel's
//!   choice, the same for all workers of the app that use this listener number. The backlog is a hint; 0 is no hint.
//!   The answer has the real address, or an errno other than 0. The worker itself does not listen; the socket belongs
//!   to the daemon.
//! - STATUS is the whole state of the worker, in absolute numbers, so that it does no harm if one is lost or arrives
//!   twice. `taken` is the number of the last connection that the worker has taken. `open` is the number of connections
//!   of this channel that are open in the worker. `credit` is how many connections after number `taken` the worker is
//!   ready for; the daemon never has more on their way. `token` is that of the last SYNC, 0 before the first. A worker
//!   that never sends STATUS gets no connections. The worker sends one after each CONNECTIONS, *before* it reads a byte
//!   of these connections, and whenever a number in it has changed.
//! - CONNECTIONS: numbers grow with each message and within it; they are not consecutive. The files come in the same
//!   order and are in non-blocking mode. As long as the worker has not sent a STATUS that covers a connection, the
//!   daemon holds a copy of it, and gives it to another worker if this one dies.
//! - REFUSE returns one connection, before a STATUS covers it. The worker must not have read from it.
//! - SYNC: the worker answers with a STATUS. A daemon that replaces a dead one learns from it which connections had
//!   reached the worker.
//! - READY is for apps with `wait_ready`: such an app counts as started from then on.
//! - DRAIN: no more connections follow. The worker closes those that it has, where possible with a response, and sends
//!   DRAINED when none is left. It may exit then; if it does not, its stop signal follows. DRAIN may arrive twice.
//! - CLOSE: the worker takes no more connections from this listener.
//! - When the daemon dies, the channel stays open, and the next daemon continues to use it. When the channel ends, the
//!   daemon and its keeper are gone, or the daemon has given the worker up.

/// The version of the protocol that this library speaks; there is no other yet.
pub const VERSION: u16 = 1;
/// The environment variable with the number of the channel's descriptor.
pub const VARIABLE: &str = "PMR_CHANNEL_FD";
/// The longest message, in bytes.
pub const PACKET: usize = 512;
/// The most connections in one message. The kernel's limit is 253.
pub const MOST: usize = 16;

/// `PMR1`.
const MAGIC: u32 = 0x3152_4d50;
const HEAD: usize = 8;

mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const LISTEN: u16 = 2;
    pub(super) const CLOSE: u16 = 3;
    pub(super) const STATUS: u16 = 4;
    pub(super) const REFUSE: u16 = 5;
    pub(super) const READY: u16 = 6;
    pub(super) const DRAINED: u16 = 7;
    pub(super) const WELCOME: u16 = 129;
    pub(super) const UNWELCOME: u16 = 130;
    pub(super) const LISTENING: u16 = 131;
    pub(super) const CONNECTIONS: u16 = 132;
    pub(super) const SYNC: u16 = 133;
    pub(super) const DRAIN: u16 = 134;
}

/// The state of a worker, in absolute numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Connections of this channel that are open in the worker.
    pub open: u32,
    /// How many more connections, after number `taken`, the worker is ready for.
    pub credit: u32,
    /// Number of the last connection that the worker has taken; 0 before the first.
    pub taken: u64,
    /// Token of the last SYNC; 0 before the first.
    pub token: u64,
}

/// A message of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromWorker<'a> {
    /// The first message.
    Hello {
        /// The version that the worker speaks, see [`VERSION`].
        version: u16,
    },
    /// Requests a listener.
    Listen {
        /// The worker's number for the listener.
        index: u32,
        /// Hint for the length of the accept queue; 0 is no hint.
        backlog: u16,
        /// The address as text, in one of the forms described in the module.
        address: &'a str,
    },
    /// Ends a listener.
    Close {
        /// Number of the listener.
        index: u32,
    },
    /// The state of the worker.
    Status(Status),
    /// Returns a connection that no STATUS has covered.
    Refuse {
        /// Number of the connection.
        number: u64,
    },
    /// The app is ready.
    Ready,
    /// The worker's last connection has ended after a DRAIN.
    Drained,
}

/// A message of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDaemon<'a> {
    /// Answers HELLO: the daemon speaks the worker's version.
    Welcome {
        /// The version that is spoken from now on.
        version: u16,
        /// The most connections in one message.
        most: u32,
    },
    /// Answers HELLO: the daemon does not speak the worker's version.
    Unwelcome {
        /// The oldest version that the daemon speaks.
        oldest: u16,
        /// The newest version that the daemon speaks.
        newest: u16,
    },
    /// Answers LISTEN.
    Listening {
        /// Number of the listener.
        index: u32,
        /// The error of the bind; 0 for success.
        errno: u16,
        /// The real address; empty after an error.
        address: &'a str,
    },
    /// Connections, whose sockets are attached.
    Connections {
        /// Number of the listener that they arrived at.
        index: u32,
        /// The number of each connection, in ascending order.
        numbers: Vec<u64>,
    },
    /// Requests a STATUS.
    Sync {
        /// Returned in that STATUS.
        token: u64,
    },
    /// Requests that the worker finish its connections.
    Drain,
}

/// Why a packet is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Its kind is unknown to this version.
    Unknown,
    /// It is too short, has no valid text where text belongs, or is a HELLO without the magic number.
    Garbage,
}

impl FromWorker<'_> {
    /// The packet of this message. A text that does not fit is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            FromWorker::Hello { version } => head(kind::HELLO, version, MAGIC),
            FromWorker::Listen { index, backlog, address } => with_text(kind::LISTEN, backlog, index, address),
            FromWorker::Close { index } => head(kind::CLOSE, 0, index),
            FromWorker::Status(Status { open, credit, taken, token }) => {
                let mut packet = head(kind::STATUS, 0, open);
                packet.extend_from_slice(&u64::from(credit).to_le_bytes());
                packet.extend_from_slice(&taken.to_le_bytes());
                packet.extend_from_slice(&token.to_le_bytes());
                packet
            }
            FromWorker::Refuse { number } => with_numbers(kind::REFUSE, 0, 0, [number]),
            FromWorker::Ready => head(kind::READY, 0, 0),
            FromWorker::Drained => head(kind::DRAINED, 0, 0),
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// If the packet is no message of this side.
    pub fn decode(packet: &[u8]) -> Result<FromWorker<'_>, DecodeError> {
        let Head { kind, small, index, body } = Head::of(packet)?;
        match kind {
            kind::HELLO if index == MAGIC => Ok(FromWorker::Hello { version: small }),
            kind::HELLO => Err(DecodeError::Garbage),
            kind::LISTEN => Ok(FromWorker::Listen { index, backlog: small, address: text(body)? }),
            kind::CLOSE => Ok(FromWorker::Close { index }),
            kind::STATUS => {
                let [credit, taken, token] = numbers(body)?;
                // The upper half is reserved.
                let credit = u32::try_from(credit & u64::from(u32::MAX)).unwrap_or(0);
                Ok(FromWorker::Status(Status { open: index, credit, taken, token }))
            }
            kind::REFUSE => numbers(body).map(|[number]| FromWorker::Refuse { number }),
            kind::READY => Ok(FromWorker::Ready),
            kind::DRAINED => Ok(FromWorker::Drained),
            _ => Err(DecodeError::Unknown),
        }
    }
}

impl FromDaemon<'_> {
    /// The packet of this message. An address that does not fit is cut. There must be no more than [`MOST`]
    /// connections.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            FromDaemon::Welcome { version, most } => head(kind::WELCOME, version, most),
            FromDaemon::Unwelcome { oldest, newest } => head(kind::UNWELCOME, oldest, newest.into()),
            FromDaemon::Listening { index, errno, address } => with_text(kind::LISTENING, errno, index, address),
            FromDaemon::Connections { index, ref numbers } => connections(index, numbers.iter().copied()),
            FromDaemon::Sync { token } => with_numbers(kind::SYNC, 0, 0, [token]),
            FromDaemon::Drain => head(kind::DRAIN, 0, 0),
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// If the packet is no message of this side.
    pub fn decode(packet: &[u8]) -> Result<FromDaemon<'_>, DecodeError> {
        let Head { kind, small, index, body } = Head::of(packet)?;
        match kind {
            kind::WELCOME => Ok(FromDaemon::Welcome { version: small, most: index }),
            kind::UNWELCOME => {
                let newest = u16::try_from(index).map_err(|_| DecodeError::Garbage)?;
                Ok(FromDaemon::Unwelcome { oldest: small, newest })
            }
            kind::LISTENING => Ok(FromDaemon::Listening { index, errno: small, address: text(body)? }),
            kind::CONNECTIONS => {
                let all = body.chunks_exact(8).take(small.into()).map(number).collect::<Vec<_>>();
                if all.len() < small.into() {
                    return Err(DecodeError::Garbage);
                }
                Ok(FromDaemon::Connections { index, numbers: all })
            }
            kind::SYNC => numbers(body).map(|[token]| FromDaemon::Sync { token }),
            kind::DRAIN => Ok(FromDaemon::Drain),
            _ => Err(DecodeError::Unknown),
        }
    }
}

/// Encodes CONNECTIONS from an iterator of at most [`MOST`] numbers, without a list in between.
#[must_use]
pub fn connections(index: u32, numbers: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let count = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
    with_numbers(kind::CONNECTIONS, count, index, numbers)
}

struct Head<'a> {
    kind: u16,
    small: u16,
    index: u32,
    body: &'a [u8],
}

impl Head<'_> {
    fn of(packet: &[u8]) -> Result<Head<'_>, DecodeError> {
        let (head, body) = packet.split_first_chunk::<HEAD>().ok_or(DecodeError::Garbage)?;
        let [a, b, c, d, e, f, g, h] = *head;
        let (kind, small) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        Ok(Head { kind, small, index: u32::from_le_bytes([e, f, g, h]), body })
    }
}

fn head(kind: u16, small: u16, index: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32);
    packet.extend_from_slice(&kind.to_le_bytes());
    packet.extend_from_slice(&small.to_le_bytes());
    packet.extend_from_slice(&index.to_le_bytes());
    packet
}

fn with_text(kind: u16, small: u16, index: u32, text: &str) -> Vec<u8> {
    let mut packet = head(kind, small, index);
    let end = text.floor_char_boundary(PACKET - HEAD);
    packet.extend_from_slice(&text.as_bytes()[..end]);
    packet
}

fn with_numbers(kind: u16, small: u16, index: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut packet = head(kind, small, index);
    numbers.into_iter().for_each(|number| packet.extend_from_slice(&number.to_le_bytes()));
    packet
}

fn text(body: &[u8]) -> Result<&str, DecodeError> {
    str::from_utf8(body).map_err(|_| DecodeError::Garbage)
}

fn number(eight: &[u8]) -> u64 {
    eight.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn numbers<const N: usize>(body: &[u8]) -> Result<[u64; N], DecodeError> {
    let mut all = [0; N];
    let whole = body.get(..8 * N).ok_or(DecodeError::Garbage)?;
    all.iter_mut().zip(whole.chunks_exact(8)).for_each(|(one, eight)| *one = number(eight));
    Ok(all)
}

#[cfg(test)]
mod tests;
