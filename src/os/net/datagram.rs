//! Unix datagram sockets on which the kernel adds the sender's process and user to each message.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use serde::{Deserialize, Serialize};

use super::super::process::credentials::Credentials;
use super::super::process::identity;

/// Most files taken from one message. The kernel closes the others.
const FILES: usize = 4;

/// The address of a datagram socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// The path of a socket file.
    Path(PathBuf),
    /// A name in the abstract name space, without a file.
    Abstract(String),
}

impl std::fmt::Display for Address {
    /// In the form of `NOTIFY_SOCKET`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Path(path) => path.display().fmt(f),
            Address::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// Number of its bytes in the buffer.
    pub length: usize,
    /// The process that sent it.
    pub sender: Sender,
    /// The files that were attached to it, close-on-exec.
    pub files: Vec<OwnedFd>,
}

/// The sender of a message, as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Pid of the process, which may have ended since; 0 if it is in a pid name space that this process does not see.
    pub pid: i32,
    /// User id.
    pub uid: u32,
}

/// Makes a socket at this address, non-blocking and close-on-exec. Only the owner of a socket file may use it: `owner`,
/// or by default the user of this process. A file that exists at the path is removed.
///
/// # Errors
/// Those of `socket(2)` and `bind(2)`.
pub fn open(address: &Address, owner: Option<&Credentials>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    set_socket_passcred(&socket, true)?;
    match address {
        Address::Abstract(name) => bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?,
        Address::Path(path) => {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            if let Some(owner) = owner {
                identity::give_path(path, owner)?;
            }
        }
    }
    Ok(socket)
}

/// The next message, cut to the length of the buffer.
///
/// # Errors
/// `WouldBlock` when no message waits.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; FILES], UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let got = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let (mut sender, mut files) = (Sender { pid: 0, uid: u32::MAX }, Vec::new());
    for message in got.cmsgs()? {
        match message {
            ControlMessageOwned::ScmCredentials(known) => sender = Sender { pid: known.pid(), uid: known.uid() },
            // SAFETY: the kernel has just opened them, and no other value owns their numbers.
            ControlMessageOwned::ScmRights(raw) => {
                files.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
            }
            _ => {}
        }
    }
    Ok(Message { length: got.bytes, sender, files })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::os::net::fdpass;

    #[test]
    fn a_message_arrives_with_its_sender_and_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        std::fs::write(&path, "stale").unwrap();
        let socket = open(&Address::Path(path.clone()), None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        client.send(b"READY=1").unwrap();
        fdpass::send(&client, b"BARRIER=1", Some(client.as_fd())).unwrap();
        let mut buffer = [0; 64];
        let message = receive(&socket, &mut buffer).unwrap();
        let own = Sender { pid: identity::pid(), uid: identity::uid() };
        assert_eq!((&buffer[..message.length], message.sender, message.files.len()), (&b"READY=1"[..], own, 0));
        let message = receive(&socket, &mut buffer).unwrap();
        assert_eq!((&buffer[..message.length], message.files.len()), (&b"BARRIER=1"[..], 1));
        assert_eq!(receive(&socket, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_abstract_name_needs_no_file() {
        let name = format!("pmr-test-{}", identity::pid());
        let address = Address::Abstract(name.clone());
        let socket = open(&address, None).unwrap();
        assert_eq!(address.to_string(), format!("@{name}"));
        let client = UnixDatagram::unbound().unwrap();
        let to = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name);
        client.send_to_addr(b"x", &to.unwrap()).unwrap();
        assert_eq!(receive(&socket, &mut [0; 8]).unwrap().length, 1);
        assert_eq!(open(&address, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
