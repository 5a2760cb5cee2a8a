//! Decides intercepted `bind` and `listen` calls and carries them out.
//!
//! | the worker binds | result |
//! |---|---|
//! | port 0, another family than IP, a port that is not shared | the kernel binds it, and only this worker has it |
//! | a port that the worker may not bind | `EACCES`, even if the daemon may |
//! | an address of another program, or of another app of this daemon | `EADDRINUSE`, and a notice that names the owner |
//! | an address it has bound already, without `SO_REUSEPORT` | `EADDRINUSE`, unless it has closed that socket |
//! | an address where connections wait for a worker | its socket is replaced by the one in which they wait |
//! | an address where others serve or have bound, with `share: queue` | its socket is replaced by theirs |
//! | anything for which the keeper must read the worker and does not reply | `ETIMEDOUT`; `ECONNRESET` if the keeper died |
//! | anything else | its own socket, which shares the port with those of the other workers |
//!
//! An MPTCP socket is replaced by a plain TCP socket first, since no balancer works with MPTCP.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::port_owner;
use super::state::{DATAGRAM_SETUP, InterceptState, LISTEN_GRACE};
use crate::cluster::notice::Notice;
use crate::os::fs::files;
use crate::os::net::address::Address;
use crate::os::net::reuseport;
use crate::os::net::reuseport::Key;
use crate::os::process::{pidfd, proc};
use crate::os::seccomp::{Answer, Call, Delivery, Request};
use crate::os::tracer;
use crate::protocol::Run;
use crate::spec::Share;

/// The result of a call that was carried out.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) answer: Answer,
    /// The address that the worker listens on after this call.
    pub(crate) listening: Option<Key>,
}

impl Decision {
    fn just(answer: Answer) -> Decision {
        Decision { answer, listening: None }
    }
}

impl InterceptState {
    /// Carries out a call. `None` if its thread does not wait for an answer any more.
    pub(crate) fn decide(&mut self, run: Run, request: &Request) -> Option<Decision> {
        match self.carry_out(run, request) {
            Ok(decision) => decision,
            Err(error) => Some(Decision::just(Err(error).into())),
        }
    }

    fn carry_out(&mut self, run: Run, request: &Request) -> io::Result<Option<Decision>> {
        let Some(address) = self.intercepted_address(run, &request.call) else {
            return match request.call {
                Call::BindUnreadable { errno, .. } if tracer::is_unanswered(errno) => {
                    Err(tracer_unavailable(run, errno))
                }
                Call::Bind { .. } | Call::BindUnreadable { .. } | Call::Listen { .. } => {
                    Ok(Some(Decision::just(Answer::Continue)))
                }
            };
        };
        let socket = match self.workers[&run].watch.get_ref().take_socket(request) {
            Ok(Some(socket)) => socket,
            Ok(None) => return Ok(None),
            Err(error) => {
                if let Some(errno) = error.raw_os_error().filter(|errno| tracer::is_unanswered(*errno)) {
                    return Err(tracer_unavailable(run, errno));
                }
                if error.raw_os_error() != Some(libc::EBADF) {
                    tracing::warn!(run = run.0, %error, "a worker's socket cannot be taken: it binds for itself");
                }
                // For a number that is no descriptor, the kernel itself fails with the right error.
                return Ok(Some(Decision::just(Answer::Continue)));
            }
        };
        if !files::is_socket(&socket) {
            return Ok(Some(Decision::just(Answer::Continue)));
        }
        match (&request.call, address) {
            (Call::Listen { backlog, .. }, _) => self.listen(run, &socket, *backlog).map(Some),
            (Call::Bind { .. } | Call::BindUnreadable { .. }, Some(address)) => {
                self.bind(run, request, socket, address)
            }
            (Call::Bind { .. } | Call::BindUnreadable { .. }, None) => Ok(Some(Decision::just(Answer::Continue))),
        }
    }

    /// `None` if the kernel should make the call by itself. Otherwise the address of a `bind`, and `Some(None)` for a
    /// `listen`.
    fn intercepted_address<'a>(&self, run: Run, call: &'a Call) -> Option<Option<&'a Address>> {
        if self.workers.get(&run).is_none_or(|worker| worker.gone) {
            return None;
        }
        match call {
            Call::Listen { .. } => Some(None),
            Call::BindUnreadable { .. } => None,
            Call::Bind { address, .. } => {
                let port = address.ip()?.port();
                (port != 0 && self.rules.shares(port)).then_some(Some(address))
            }
        }
    }

    fn listen(&mut self, run: Run, socket: &OwnedFd, backlog: i32) -> io::Result<Decision> {
        let listening = self.queues.listening(run, socket, backlog)?;
        let answer = if listening.is_some() { Answer::Success } else { Answer::Continue };
        Ok(Decision { answer, listening })
    }

    fn bind(
        &mut self,
        run: Run,
        request: &Request,
        mut socket: OwnedFd,
        address: &Address,
    ) -> io::Result<Option<Decision>> {
        let Some(ip) = address.ip() else { return Ok(Some(Decision::just(Answer::Continue))) };
        // The previous God bound it, recorded it, and died before it answered.
        let known = rustix::fs::fstat(&socket)?.st_ino;
        if self.queues.held_by(run).iter().any(|(_, inode)| *inode == known) {
            return Ok(Some(Decision::just(Answer::Success)));
        }
        if reuseport::is_multipath(&socket) {
            let plain = reuseport::single_path(&socket)?;
            if !self.replace_socket(run, request, &plain)? {
                return Ok(None);
            }
            socket = plain;
        }
        let Some(key) = Key::at(&socket, ip)? else { return Ok(Some(Decision::just(Answer::Continue))) };
        if !proc::may_bind(request.thread, ip.port()) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        self.release_closed(run, Some(request.thread));
        let clashes = self.queues.held_by(run).iter().any(|(held, _)| held.overlaps(&key));
        if clashes && !reuseport::is_shared(&socket) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        if let Some(other) = self.existing_socket(run, &socket, &key)? {
            if !self.replace_socket(run, request, &other)? {
                return Ok(None);
            }
            if key.tcp {
                self.expect_listen(run, other);
            } else {
                self.expect_reading(run, key);
            }
            return Ok(Some(Decision::just(Answer::Success)));
        }
        self.share(run, socket, address, &key).map(Some)
    }

    /// A socket at this address that replaces the worker's own: the common one with `share: queue`, else a vacant one.
    fn existing_socket(&self, run: Run, own: &OwnedFd, key: &Key) -> io::Result<Option<OwnedFd>> {
        let common = match self.rules.share {
            Share::Own => None,
            Share::Queue => self.queues.join_shared(run, key),
        };
        // The options of a common socket stay as the serving workers have set them. If it were made blocking, the event
        // loops of those workers would block in it.
        if common.is_some() {
            return Ok(common);
        }
        let vacant = self.queues.inherit(run, key);
        vacant.iter().try_for_each(|vacant| reuseport::carry_options(own, vacant))?;
        Ok(vacant)
    }

    fn share(&mut self, run: Run, socket: OwnedFd, address: &Address, key: &Key) -> io::Result<Decision> {
        // A port is shared only within the app. `SO_REUSEPORT` would also let in sockets of other apps of this user.
        if !reuseport::is_shared(&socket) && !self.queues.overlaps_any(key) && key.is_taken() {
            self.report_conflict(run, key);
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        reuseport::share(&socket)?;
        match address.bind(&socket) {
            Ok(()) => {}
            // The worker has a capability that the daemon lacks, so the kernel binds for it.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Ok(Decision::just(Answer::Continue)),
            // The previous God bound it and died before it recorded that.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && Key::of(&socket)? == Some(*key) => {}
            Err(error) => {
                if error.raw_os_error() == Some(libc::EADDRINUSE) {
                    self.report_conflict(run, key);
                }
                return Err(error);
            }
        }
        self.queues.bound(run, socket)?;
        if !key.tcp {
            self.expect_reading(run, *key);
        }
        Ok(Decision::just(Answer::Success))
    }

    fn report_conflict(&self, run: Run, key: &Key) {
        let why = port_owner::in_use(key);
        tracing::warn!(run = run.0, "{why}");
        self.notify(Notice::ListenFailed { run, why });
    }

    /// Replaces the socket of a call by another in the worker. False if the thread does not wait any more.
    fn replace_socket(&self, run: Run, request: &Request, socket: impl AsFd) -> io::Result<bool> {
        let number = request.call.socket();
        let close_on_exec = pidfd::is_close_on_exec(request.thread, number).unwrap_or(true);
        let delivery = self.workers[&run].watch.get_ref().replace(request.id, number, socket, close_on_exec)?;
        Ok(delivery == Delivery::Delivered)
    }

    /// Counts the worker as reading datagrams after [`DATAGRAM_SETUP`], since no call shows that the socket is set up.
    pub(crate) fn expect_reading(&self, run: Run, key: Key) {
        self.run_later(DATAGRAM_SETUP, move |state| {
            if state.workers.get(&run).is_some_and(|worker| !worker.gone) && state.queues.reads(run, &key) {
                state.notify_listening(run, &key);
            }
        });
    }

    /// Counts the worker as listening after [`LISTEN_GRACE`] if it got a socket that listens. Programs that check
    /// whether their socket listens already (gunicorn does) do not call `listen` then.
    fn expect_listen(&self, run: Run, socket: OwnedFd) {
        self.run_later(LISTEN_GRACE, move |state| {
            let silent = state.workers.get(&run).is_some_and(|worker| !worker.gone) && reuseport::listens(&socket);
            if !silent || state.queues.is_listening_on(run, &socket) {
                return;
            }
            if let Ok(Some(key)) = state.queues.listening(run, &socket, reuseport::BACKLOG) {
                state.notify_listening(run, &key);
            }
        });
    }
}

/// The keeper must read the worker's memory for the daemon and does not reply. If the kernel made the call, the worker
/// would have the port alone. So the call fails: the program tries again, or ends and is restarted.
fn tracer_unavailable(run: Run, errno: i32) -> io::Error {
    let error = io::Error::from_raw_os_error(errno);
    tracing::error!(run = run.0, "the keeper does not look into a worker that binds, which therefore fails: {error}");
    error
}
