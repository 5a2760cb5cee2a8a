//! Finds processes that start while logs are followed. They are reported in the daemon's event stream, which is read
//! without blocking, so that one wait covers the files and the stream. The daemon may end and be started again
//! meanwhile.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::selection::Selection;
use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::failure::{Doing, Failure};
use crate::protocol::event::EventProcess;
use crate::protocol::{Event, EventKind, ProcessInfo};

/// Reads the daemon's events for processes that are not known yet.
pub struct NewProcesses<'a> {
    cx: &'a Context,
    selection: &'a Selection,
    link: Option<Link>,
    /// Ids and names in the last list.
    known: HashSet<(u32, String)>,
}

struct Link {
    daemon: Client,
    events: Events<UnixStream>,
}

/// Reads the lines of a non-blocking event stream.
struct Events<S> {
    stream: S,
    /// The beginning of a line.
    unread: Vec<u8>,
}

impl<'a> NewProcesses<'a> {
    /// Connects to the daemon. Also returns the processes it has; `None` if no daemon runs.
    pub async fn open(
        selection: &'a Selection,
        cx: &'a Context,
    ) -> Result<(NewProcesses<'a>, Option<Vec<ProcessInfo>>), Failure> {
        let mut new = NewProcesses { cx, selection, link: Link::open(cx).await?, known: HashSet::new() };
        let processes = new.request_list().await?;
        Ok((new, processes))
    }

    /// The descriptor of the event stream. `None` while no daemon is known to run.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(|link| link.events.stream.as_fd())
    }

    /// All processes, if some of them may be new. If the daemon does not answer, the next call connects again.
    pub async fn processes(&mut self) -> Option<Vec<ProcessInfo>> {
        let NewProcesses { selection, known, .. } = self;
        let is_new = |process: &EventProcess| {
            selection.may_match(process) && !known.contains(&(process.id, process.name.clone()))
        };
        match self.link.as_mut().map(|link| link.events.read_new(is_new)) {
            Some(Ok(false)) => return None,
            Some(Ok(true)) => {}
            Some(Err(_)) | None => self.link = Link::open(self.cx).await.ok().flatten(),
        }
        match self.request_list().await {
            Ok(processes) => processes,
            Err(_) => {
                self.link = None;
                None
            }
        }
    }

    async fn request_list(&mut self) -> Result<Option<Vec<ProcessInfo>>, Failure> {
        let Some(link) = &self.link else { return Ok(None) };
        let processes = link.daemon.list().await?;
        self.known = processes.iter().map(|info| (info.id, info.name.clone())).collect();
        Ok(Some(processes))
    }
}

impl Link {
    /// Subscribes before the list is requested, so that a process that the list lacks is in the event stream.
    async fn open(cx: &Context) -> Result<Option<Link>, Failure> {
        let Some(daemon) = cx.daemon_if_any().await? else { return Ok(None) };
        let path = cx.home.pub_sock();
        let stream = UnixStream::connect(&path).and_then(|stream| stream.set_nonblocking(true).map(|()| stream));
        let stream = stream.doing(|| format!("connecting to {}", path.display()))?;
        Ok(Some(Link { daemon, events: Events { stream, unread: Vec::new() } }))
    }
}

impl<S: Read> Events<S> {
    /// Reads all present events. True if one is about a new process, or reports that events were lost. The end of the
    /// stream is an error.
    fn read_new(&mut self, is_new: impl Fn(&EventProcess) -> bool) -> io::Result<bool> {
        let mut block = [0; 8 << 10];
        loop {
            match self.stream.read(&mut block) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.unread.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let whole = memchr::memrchr(b'\n', &self.unread).map_or(0, |newline| newline + 1);
        let found = self.unread[..whole].split(|byte| *byte == b'\n').any(|line| is_about_new(line, &is_new));
        self.unread.drain(..whole);
        Ok(found)
    }
}

/// Events of a kind that this version does not know are ignored.
fn is_about_new(line: &[u8], is_new: impl Fn(&EventProcess) -> bool) -> bool {
    let Ok(event) = serde_json::from_slice::<Event>(line) else { return false };
    if matches!(event.kind, EventKind::Lost { .. }) {
        return true;
    }
    // A restart can give a process another name, and with it other files.
    let may_rename = matches!(event.kind, EventKind::Created | EventKind::Started { .. });
    may_rename && event.process.as_ref().is_some_and(is_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one chunk for each call of `read_new`, and then the end of the stream.
    struct Chunks(Vec<&'static str>, bool);

    impl Read for Chunks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.1, false) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.1 = true;
            if self.0.is_empty() {
                return Ok(0);
            }
            let chunk = self.0.remove(0).as_bytes();
            buffer[..chunk.len()].copy_from_slice(chunk);
            Ok(chunk.len())
        }
    }

    #[test]
    fn only_processes_that_were_not_known_are_reported() {
        let chunks = vec![
            r#"{"seq":1,"at":0,"process":{"id":0,"name":"api","namespace":"x"},"event":"started","pid":3}"#,
            "\n{\"seq\":2,\"at\":0,\"process\":{\"id\":7,\"name\":\"api\",\"namespace\":\"x\"},\"event\":\"online\"}\n",
            "{\"seq\":3,\"at\":0,\"process\":{\"id\":7,\"name\":\"api\",\"namespace\":\"x\"},\"eve",
            "nt\":\"created\"}\n{\"seq\":4",
            ",\"at\":0,\"event\":\"lost\",\"count\":2}\n",
            "{\"seq\":5,\"at\":0,\"event\":\"from the future\"}\nnonsense\n",
        ];
        let calls = chunks.len();
        let mut events = Events { stream: Chunks(chunks, false), unread: Vec::new() };
        let mut read_new = || events.read_new(|process| process.id == 7);
        let found: Vec<bool> = (0..calls).map(|_| read_new().unwrap()).collect();
        assert_eq!(found, [false, false, false, true, true, false]);
        assert_eq!(read_new().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
