//! A link to a proxy that the test serves, and to a proxy that is late, dead, or sends invalid packets.

use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Limit for proxies that respond: longer than a busy machine delays them.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

static MARK: [u8; 16] = *b"is this readable";

/// A process in the place of the proxy's. It sleeps and ignores the signal that wakes a proxy.
struct ProxyProcess {
    child: Child,
}

impl ProxyProcess {
    fn new() -> ProxyProcess {
        let text = format!("trap '' {}; echo up; exec sleep 60", REQUESTED as i32);
        let mut child = Command::new("sh").args(["-c", &text]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
        let process = ProxyProcess { child };
        // The shell executes another program, which sleeps.
        let name = format!("/proc/{}/comm", process.pid());
        let is_sleep = || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n");
        let start = std::time::Instant::now();
        while !is_sleep() || proc::stat(process.pid()).is_none_or(|stat| stat.state != 'S') {
            assert!(start.elapsed() < Duration::from_secs(50), "the program never went to sleep");
            std::thread::sleep(Duration::from_millis(1));
        }
        process
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// A tracer that uses only the proxy, and the proxy.
    fn tracer(&self) -> (Tracer, TraceProxy) {
        self.tracer_with(LONG)
    }

    fn tracer_with(&self, limit: Duration) -> (Tracer, TraceProxy) {
        let (socket, proxy) = pair().unwrap();
        let tracer = Tracer::with_limit(limit, socket, pidfd::open(self.pid()).unwrap());
        (Tracer { directly: false, ..tracer }, proxy)
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn own_pid() -> i32 {
    identity::pid()
}

/// Calls `trace` while the proxy answers all requests.
fn answered<T: Send>(proxy: &TraceProxy, trace: impl FnOnce() -> T) -> T {
    // SAFETY: borrowed for one call at a time; the proxy has it open.
    let socket = unsafe { BorrowedFd::borrow_raw(proxy.as_raw_fd()) };
    let over = AtomicBool::new(false);
    let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&pause)).unwrap();
                proxy.answer();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(trace));
        over.store(true, Ordering::Relaxed);
        result.unwrap()
    })
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn errno_of<T>(result: &io::Result<T>) -> Option<i32> {
    result.as_ref().err().and_then(io::Error::raw_os_error)
}

#[test]
fn a_proxy_yields_the_same_as_a_direct_trace() {
    let process = ProxyProcess::new();
    let (tracer, proxy) = process.tracer();
    let (mut read, write) = io::pipe().unwrap();
    let number = write.as_raw_fd();
    let (file, bytes, call) = answered(&proxy, || {
        let file = tracer.take_fd(own_pid(), number).unwrap();
        let bytes = tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16).unwrap();
        (file, bytes, tracer.system_call(process.pid()))
    });
    drop(write);
    assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    io::Write::write_all(&mut fs::File::from(file), b"through it").unwrap();
    let mut text = String::new();
    // The pipe ends: the proxy kept no copy of its file.
    read.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), bytes.as_slice()), ("through it", &MARK[..]));
    assert_eq!(call, Tracer::direct().system_call(process.pid()), "both find the same call");
}

#[test]
fn errors_of_the_proxy_are_returned_to_the_tracer() {
    let process = ProxyProcess::new();
    let (tracer, proxy) = process.tracer();
    let (no_file, no_memory, no_process) = answered(&proxy, || {
        (tracer.take_fd(own_pid(), 1_000_000), tracer.read_memory(own_pid(), 1, 16), tracer.take_fd(i32::MAX, 0))
    });
    assert_eq!((errno(no_file), errno(no_memory)), (Some(libc::EBADF), Some(libc::EFAULT)));
    assert!([libc::ESRCH, libc::EINVAL].map(Some).contains(&errno(no_process)));
}

#[test]
fn the_proxy_gets_no_request_if_the_kernel_allows_a_direct_trace() {
    let process = ProxyProcess::new();
    let (tracer, _proxy) = process.tracer();
    let tracer = Tracer { directly: true, ..tracer };
    // The proxy does not run.
    assert_eq!(tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16).unwrap(), MARK);
    assert_eq!(errno(tracer.take_fd(own_pid(), 1_000_000)), Some(libc::EBADF));
}

#[test]
fn a_late_proxy_delays_one_request_and_its_late_response_is_dropped() {
    let process = ProxyProcess::new();
    let (tracer, proxy) = process.tracer_with(SHORT);
    let (mut read, write) = io::pipe().unwrap();
    let begun = Instant::now();
    assert_eq!(errno(tracer.take_fd(own_pid(), write.as_raw_fd())), Some(SILENT));
    assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
    let again = Instant::now();
    for _ in 0..1000 {
        assert_eq!(errno(tracer.read_memory(own_pid(), 0, 16)), Some(SILENT));
    }
    assert!(again.elapsed() < SHORT * 1000 / 2, "{:?}", again.elapsed());
    proxy.answer();
    // On a busy machine the proxy may be late again.
    let read_mark = || tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16);
    let bytes = answered(&proxy, || std::iter::repeat_with(read_mark).find(|result| errno_of(result) != Some(SILENT)));
    assert_eq!(bytes.unwrap().unwrap(), MARK);
    drop(write);
    // The pipe ends: the file of the late response was closed.
    assert_eq!(read.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_file_for_a_dead_tracer_is_closed_with_the_link() {
    let process = ProxyProcess::new();
    let (socket, proxy) = pair().unwrap();
    let (mut read, write) = io::pipe().unwrap();
    let request = Request::File { thread: own_pid(), number: write.as_raw_fd() };
    packets::send(&socket, &request.to_bytes(1), &[]).unwrap();
    proxy.answer();
    drop((socket, write));
    assert_eq!(read.read(&mut [0]).unwrap(), 0);
    drop(process);
}

#[test]
fn the_tracer_does_not_wait_for_a_dead_proxy() {
    let mut process = ProxyProcess::new();
    let (tracer, _proxy) = process.tracer();
    process.child.kill().unwrap();
    // Waiting until the limit would yield another error.
    assert_eq!(errno(tracer.read_memory(own_pid(), 0, 16)), Some(DEAD));
    assert!(is_unanswered(DEAD) && is_unanswered(SILENT) && !is_unanswered(libc::EPERM));
}

#[test]
fn a_response_to_an_earlier_request_is_dropped_and_an_invalid_one_is_an_error() {
    let process = ProxyProcess::new();
    let (socket, theirs) = packets::pair().unwrap();
    let tracer = Tracer::with_limit(LONG, socket, pidfd::open(process.pid()).unwrap());
    let tracer = Tracer { directly: false, ..tracer };
    let respond = |sequence: u64, errno: u64, bytes: &[u8]| {
        let packet = [&sequence.to_ne_bytes()[..], &errno.to_ne_bytes(), bytes].concat();
        packets::send(&theirs, &packet, &[]).unwrap();
    };
    respond(0, 0, b"stale");
    respond(1, 0, b"fresh");
    assert_eq!(tracer.read_memory(1, 0, 5).unwrap(), b"fresh");
    // A response whose file had no room.
    respond(2, 0, b"");
    assert_eq!(errno(tracer.take_fd(1, 0)), Some(libc::EMFILE));
    packets::send(&theirs, b"short", &[]).unwrap();
    assert_eq!(errno(tracer.take_fd(1, 0)), Some(libc::EPROTO));
    respond(4, u64::MAX, b"");
    assert_eq!(errno(tracer.take_fd(1, 0)), Some(libc::EPROTO));
}

#[test]
fn a_proxy_ignores_invalid_requests() {
    let process = ProxyProcess::new();
    let (tracer, proxy) = process.tracer();
    let link = tracer.link.as_ref().unwrap();
    packets::send(&link.socket, b"what?", &[]).unwrap();
    packets::send(&link.socket, &[7; 40], &[]).unwrap();
    let bytes = answered(&proxy, || tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16));
    assert_eq!(bytes.unwrap(), MARK);
}

#[test]
fn every_request_is_decoded_as_it_was_encoded() {
    let requests = [
        Request::File { thread: i32::MAX, number: -1 },
        Request::Memory { thread: 7, from: u64::MAX, length: u32::MAX },
        Request::Call { thread: 1 },
    ];
    for request in requests {
        assert_eq!(Request::from_bytes(&request.to_bytes(9)), Some((9, request)));
    }
    assert_eq!(parse_call("49 0x3 0x7ffe 0x10 0x0 0x0 0x0 0x7ffd 0x7f01\n"), Some((49, [3, 0x7ffe, 16, 0, 0, 0])));
    assert_eq!((parse_call("running\n"), parse_call("49 0x3")), (None, None));
}
