//! A minimal daemon: it answers intercepted calls as pmr does, without its state, queues and recovery.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use pmr::os::net::address::Address;
use pmr::os::net::diag;
use pmr::os::net::reuseport;
use pmr::os::net::reuseport::{Group, KernelBalancing, Key, MemberId};
use pmr::os::process::pidfd;
use pmr::os::process::tree;
use pmr::os::seccomp::{Answer, BindWatch, Call, Delivery, Request};

pub use crate::ports::free_port;
use crate::program::{Program, TIME_LIMIT, eventually};

/// The shared sockets of several programs.
pub struct Host {
    pub groups: HashMap<Key, Group>,
    bound: Vec<Bound>,
    best_balancing: KernelBalancing,
    /// Listening sockets of dead programs, for the next program that binds the address.
    orphans: Vec<(Key, MemberId)>,
}

/// A socket that a program has bound.
struct Bound {
    /// The pid of the program's main process.
    root: i32,
    key: Key,
    inode: u64,
    member: Option<MemberId>,
    socket: OwnedFd,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Bound(SocketAddr),
    Listening(Key, MemberId),
    Refused(i32),
    LeftToKernel,
    Gone,
}

impl Host {
    pub fn new(best_balancing: KernelBalancing) -> Host {
        Host { groups: HashMap::new(), bound: Vec::new(), best_balancing, orphans: Vec::new() }
    }

    /// Answers calls until the program listens on a shared address. Returns its group and member.
    pub fn until_listening(&mut self, program: &Program) -> (Key, MemberId) {
        loop {
            let request = program.next_call().expect("it ended before it listened");
            match self.handle(program, &request) {
                Done::Listening(key, member) => return (key, member),
                Done::Refused(errno) => panic!("{request:?}: {}", io::Error::from_raw_os_error(errno)),
                Done::Bound(_) | Done::LeftToKernel | Done::Gone => {}
            }
        }
    }

    /// Answers calls until the program has ended. Returns the result of each.
    pub fn until_end(&mut self, program: &Program) -> Vec<Done> {
        std::iter::from_fn(|| program.next_call().map(|request| self.handle(program, &request))).collect()
    }

    pub fn handle(&mut self, program: &Program, request: &Request) -> Done {
        let done = self.decide(program, request).unwrap_or_else(|error| Done::Refused(error.raw_os_error().unwrap()));
        let answer = match &done {
            Done::Bound(_) | Done::Listening(..) => Answer::Success,
            Done::Refused(errno) => Answer::Error(*errno),
            Done::LeftToKernel => Answer::Continue,
            Done::Gone => return done,
        };
        match program.watch.answer(request.id, answer).unwrap() {
            Delivery::Delivered => done,
            Delivery::Gone => Done::Gone,
        }
    }

    fn decide(&mut self, program: &Program, request: &Request) -> io::Result<Done> {
        let Some(socket) = program.watch.take_socket(request)? else { return Ok(Done::Gone) };
        match &request.call {
            Call::Bind { address, .. } => match address.ip() {
                Some(ip) if ip.port() != 0 => self.bind(program, request, socket, address),
                _ => Ok(Done::LeftToKernel),
            },
            Call::Listen { backlog, .. } => self.listen(socket, *backlog),
            Call::BindUnreadable { .. } => Ok(Done::LeftToKernel),
        }
    }

    fn bind(
        &mut self,
        program: &Program,
        request: &Request,
        mut socket: OwnedFd,
        address: &Address,
    ) -> io::Result<Done> {
        if reuseport::is_multipath(&socket) {
            let plain = reuseport::single_path(&socket)?;
            socket = replace_socket(&program.watch, request, plain)?;
        }
        let wanted = address.ip().unwrap();
        if !pmr::os::process::proc::may_bind(request.thread, wanted.port()) {
            return Err(io::Error::from_raw_os_error(errno::EACCES));
        }
        self.forget_closed(program.pid, wanted);
        let twice = self.bound.iter().any(|bound| bound.root == program.pid && bound.key.address == wanted);
        if twice && !reuseport::is_shared(&socket) {
            return Err(io::Error::from_raw_os_error(errno::EADDRINUSE));
        }
        let orphan = self.orphans.iter().position(|(key, _)| key.address == wanted);
        if let Some(at) = orphan {
            let (key, member) = self.orphans.remove(at);
            let left = self.groups[&key].socket(member).unwrap().try_clone_to_owned()?;
            reuseport::carry_options(&socket, &left)?;
            let left = replace_socket(&program.watch, request, left)?;
            self.record(program.pid, key, left, Some(member))?;
            return Ok(Done::Bound(wanted));
        }
        reuseport::share(&socket)?;
        address.bind(&socket)?;
        let key = Key::of(&socket)?.unwrap();
        let member = if key.tcp { None } else { Some(self.group(key).add(socket.try_clone()?, 0, true)?) };
        self.record(program.pid, key, socket, member)?;
        Ok(Done::Bound(wanted))
    }

    /// Removes what the program has closed: one that tests a port binds, listens, closes, and binds again.
    fn forget_closed(&mut self, root: i32, address: SocketAddr) {
        let open = diag::sockets_of(&tree::descendants(&[root]));
        let closed =
            |bound: &mut Bound| bound.root == root && bound.key.address == address && !open.contains(&bound.inode);
        for Bound { key, member, .. } in self.bound.extract_if(.., closed) {
            if let Some(member) = member {
                self.groups.get_mut(&key).unwrap().remove(member);
            }
        }
    }

    fn record(&mut self, root: i32, key: Key, socket: OwnedFd, member: Option<MemberId>) -> io::Result<()> {
        let inode = inode(&socket);
        self.bound.push(Bound { root, key, inode, member, socket });
        Ok(())
    }

    fn group(&mut self, key: Key) -> &mut Group {
        let best_balancing = self.best_balancing;
        self.groups.entry(key).or_insert_with(|| Group::new(best_balancing))
    }

    fn listen(&mut self, socket: OwnedFd, backlog: i32) -> io::Result<Done> {
        let inode = inode(&socket);
        let Some(at) = self.bound.iter().position(|bound| bound.inode == inode) else {
            return Ok(Done::LeftToKernel);
        };
        let key = self.bound[at].key;
        let member = self.group(key).add(socket, backlog, true)?;
        self.bound[at].member = Some(member);
        Ok(Done::Listening(key, member))
    }

    /// The program has died: its queues are kept for a successor, and get no new connection.
    pub fn orphan(&mut self, root: i32) {
        for Bound { key, member, socket, .. } in self.bound.extract_if(.., |bound| bound.root == root) {
            drop(socket);
            if let Some(member) = member {
                self.groups.get_mut(&key).unwrap().exclude(member);
                self.orphans.push((key, member));
            }
        }
    }
}

fn replace_socket(watch: &BindWatch, request: &Request, socket: OwnedFd) -> io::Result<OwnedFd> {
    let number = request.call.socket();
    let close_on_exec = pidfd::is_close_on_exec(request.thread, number).unwrap_or(true);
    watch.replace(request.id, number, &socket, close_on_exec)?;
    Ok(socket)
}

fn inode(socket: impl AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

/// Error numbers that the host returns by itself (Linux).
mod errno {
    pub const EACCES: i32 = 13;
    pub const EADDRINUSE: i32 = 98;
}

/// Connects, and returns the pid in the answer.
pub fn ask(address: SocketAddr) -> i32 {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(TIME_LIMIT)).unwrap();
    answer(&mut client)
}

/// Returns the pid in the answer.
pub fn answer(client: &mut TcpStream) -> i32 {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?}"))
}

/// How many of `count` connections each pid answered.
pub fn spread(address: SocketAddr, count: usize) -> HashMap<i32, usize> {
    let mut found = HashMap::new();
    (0..count).for_each(|_| *found.entry(ask(address)).or_default() += 1);
    found
}

/// Waits until a process has ended. It need not be a child of this one.
pub fn until_gone(pid: i32) {
    eventually("its end", || pmr::os::process::proc::stat(pid).is_none().then_some(()));
}
