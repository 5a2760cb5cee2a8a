//! The worker's end of Node's IPC channel: lines of JSON both ways, some of those that come with a file.
//!
//! The kernel never joins the files of two messages in one read, and a file arrives with the first byte of its line at
//! the latest. So files wait in a queue, and the line that speaks of one finds its own at the front.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::os::fdpass;

/// Bytes read at a time.
const READ: usize = 16 << 10;

/// What the primary says.
#[derive(Debug)]
pub(super) enum FromPrimary {
    /// The answer to one of our questions.
    Answer {
        /// The `seq` of the question.
        ack: u64,
        /// Why it cannot be, as a positive error number.
        errno: Option<i32>,
        /// The listener's name from now on.
        key: String,
        /// Where it really listens.
        port: Option<u16>,
    },
    /// A connection for us.
    Connection {
        /// Of which listener.
        key: String,
        /// To be answered.
        seq: u64,
        /// The connection itself.
        socket: OwnedFd,
    },
    /// A line that speaks of a file, and none we want came with it.
    NoHandle {
        /// False: a file came, but we have no use for it.
        missing: bool,
    },
    /// Close the servers and leave.
    Disconnect,
    /// Let connections end.
    Drain,
    /// Nothing for us: a message for the app, or one of a later version.
    Other,
}

/// Our end of the channel.
pub(super) struct Channel {
    socket: AsyncFd<OwnedFd>,
    incoming: Vec<u8>,
    /// So much of `incoming` holds no line end.
    searched: usize,
    files: VecDeque<OwnedFd>,
    outgoing: Vec<u8>,
}

impl Channel {
    /// Takes over our end. Must be called inside a runtime.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Channel> {
        let socket = fdpass::watch(socket)?;
        Ok(Channel { socket, incoming: Vec::new(), searched: 0, files: VecDeque::new(), outgoing: Vec::new() })
    }

    /// Says something, after what was said before. It is written when next the channel is awaited.
    pub(super) fn say(&mut self, message: &Value) {
        self.outgoing.extend_from_slice(message.to_string().as_bytes());
        self.outgoing.push(b'\n');
    }

    /// The next thing the primary says; `None` when it has closed the channel. May be dropped while it waits: nothing
    /// is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<FromPrimary>> {
        loop {
            self.write_now()?;
            if let Some(line) = self.take_line() {
                return Ok(Some(self.understand(&line)));
            }
            let interest = if self.outgoing.is_empty() { Interest::READABLE } else { BOTH };
            let mut ready = self.socket.ready(interest).await?;
            let mut buffer = [0; READ];
            match fdpass::receive(ready.get_inner(), &mut buffer) {
                Ok((0, _)) => return Ok(None),
                Ok((count, files)) => {
                    self.incoming.extend_from_slice(&buffer[..count]);
                    self.files.extend(files);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready_matching(tokio::io::Ready::READABLE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The primary died with words of ours unread: it is gone all the same.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until all that was said is written.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.write_now()?;
            if self.outgoing.is_empty() {
                return Ok(());
            }
            drop(self.socket.writable().await?);
        }
    }

    /// Writes as much as goes.
    fn write_now(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.socket.try_io(Interest::WRITABLE, |socket| fdpass::send(socket, &self.outgoing, None)) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody hears it. That the primary is gone is learned by reading.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.outgoing.clear(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = memchr::memchr(b'\n', &self.incoming[self.searched..]) else {
            self.searched = self.incoming.len();
            return None;
        };
        let rest = self.incoming.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.incoming, rest))
    }

    fn understand(&mut self, line: &[u8]) -> FromPrimary {
        // What is no internal message is one for the app, whatever it looks like.
        serde_json::from_slice::<Message>(line).map_or(FromPrimary::Other, |message| self.sort(message))
    }

    fn sort(&mut self, message: Message) -> FromPrimary {
        match (message.cmd.as_str(), message.act.as_str()) {
            ("NODE_HANDLE", _) => self.with_file(message.msg.map(|inner| *inner)),
            ("NODE_CLUSTER", "disconnect") => FromPrimary::Disconnect,
            ("NODE_PMR", "drain") => FromPrimary::Drain,
            ("NODE_CLUSTER", "") => match message.ack {
                Some(ack) => FromPrimary::Answer {
                    ack,
                    errno: message.errno.filter(|errno| *errno != 0).map(i32::abs),
                    key: message.key,
                    port: message.sockname.map(|name| name.port),
                },
                None => FromPrimary::Other,
            },
            _ => FromPrimary::Other,
        }
    }

    fn with_file(&mut self, inner: Option<Message>) -> FromPrimary {
        match (self.files.pop_front(), inner) {
            (None, _) => FromPrimary::NoHandle { missing: true },
            (Some(socket), Some(Message { act, key, seq: Some(seq), .. })) if act == "newconn" => {
                FromPrimary::Connection { key, seq, socket }
            }
            (Some(_), _) => FromPrimary::NoHandle { missing: false },
        }
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// All we look at in a line.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    cmd: String,
    #[serde(default)]
    act: String,
    #[serde(default)]
    key: String,
    seq: Option<u64>,
    ack: Option<u64>,
    errno: Option<i32>,
    sockname: Option<SockName>,
    msg: Option<Box<Message>>,
}

#[derive(Deserialize)]
struct SockName {
    port: u16,
}
