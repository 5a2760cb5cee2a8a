//! Unix datagram sockets that tell who sent each message: the kernel vouches for process and user.

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

/// Files taken from one message. More than these the kernel closes.
const FILES: usize = 4;

/// Where messages are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// A file.
    Path(PathBuf),
    /// A name that is in no file system.
    Abstract(String),
}

impl std::fmt::Display for Address {
    /// As `NOTIFY_SOCKET` has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Path(path) => path.display().fmt(f),
            Address::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// A message that came.
#[derive(Debug)]
pub struct Message {
    /// How many bytes of the buffer it has.
    pub length: usize,
    /// Who sent it.
    pub sender: Sender,
    /// What came with it, close-on-exec.
    pub files: Vec<OwnedFd>,
}

/// Who sent a message, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Process, which may have ended since; 0 if it is of a name space that we do not see.
    pub pid: i32,
    /// User.
    pub uid: u32,
}

/// Makes a socket there, non-blocking and close-on-exec. A file is for its owner alone, who is `owner` if given; one
/// that is in the way, left by somebody who died, is removed.
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

/// The next message. What is longer than the buffer is cut.
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Message> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; FILES], UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let got = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let (mut sender, mut files) = (Sender { pid: 0, uid: u32::MAX }, Vec::new());
    for message in got.cmsgs()? {
        match message {
            ControlMessageOwned::ScmCredentials(who) => sender = Sender { pid: who.pid(), uid: who.uid() },
            // SAFETY: the kernel opened them for us just now, and nobody else knows their numbers.
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
    fn a_message_tells_its_sender_and_brings_its_files() {
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
    fn a_name_needs_no_file() {
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
