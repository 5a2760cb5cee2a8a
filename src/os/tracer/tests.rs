//! A line with a proxy played by the test, and with one that is late, dead, or talks nonsense.

use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// How long those have who do answer: longer than any machine lets them wait.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

static MARK: [u8; 16] = *b"is this readable";

/// The process of a proxy, which does nothing: the signal that wakes it is lost on it.
struct Stand {
    child: Child,
}

impl Stand {
    fn new() -> Stand {
        let text = format!("trap '' {}; echo up; exec sleep 60", REQUESTED as i32);
        let mut child = Command::new("sh").args(["-c", &text]).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
        let stand = Stand { child };
        // The shell becomes another program, which goes to sleep.
        let name = format!("/proc/{}/comm", stand.pid());
        let is_sleep = || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n");
        let start = std::time::Instant::now();
        while !is_sleep() || proc::stat(stand.pid()).is_none_or(|stat| stat.state != 'S') {
            assert!(start.elapsed() < Duration::from_secs(50), "the program never went to sleep");
            std::thread::sleep(Duration::from_millis(1));
        }
        stand
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// A tracer that never looks by itself, and its proxy.
    fn tracer(&self) -> (Tracer, TraceProxy) {
        self.tracer_with(LONG)
    }

    fn tracer_with(&self, patience: Duration) -> (Tracer, TraceProxy) {
        let (socket, proxy) = pair().unwrap();
        let tracer = Tracer::with_patience(patience, socket, pidfd::open(self.pid()).unwrap());
        (Tracer { ourselves: false, ..tracer }, proxy)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn own_pid() -> i32 {
    identity::pid()
}

/// Looks while this one answers whatever is asked.
fn answered<T: Send>(proxy: &TraceProxy, look: impl FnOnce() -> T) -> T {
    // SAFETY: borrowed for one call at a time, and the proxy has it open.
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
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
        over.store(true, Ordering::Relaxed);
        seen.unwrap()
    })
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn errno_of<T>(result: &io::Result<T>) -> Option<i32> {
    result.as_ref().err().and_then(io::Error::raw_os_error)
}

#[test]
fn a_proxy_sees_what_we_would() {
    let stand = Stand::new();
    let (tracer, proxy) = stand.tracer();
    let (mut read, write) = io::pipe().unwrap();
    let number = write.as_raw_fd();
    let (file, bytes, call) = answered(&proxy, || {
        let file = tracer.take_fd(own_pid(), number).unwrap();
        let bytes = tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16).unwrap();
        (file, bytes, tracer.system_call(stand.pid()))
    });
    drop(write);
    assert!(rustix::io::fcntl_getfd(&file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    io::Write::write_all(&mut fs::File::from(file), b"through it").unwrap();
    let mut text = String::new();
    // It ends: the proxy kept no copy.
    read.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), bytes.as_slice()), ("through it", &MARK[..]));
    assert_eq!(call, Tracer::direct().system_call(stand.pid()), "it sleeps in the same call whoever looks");
}

#[test]
fn its_errors_are_ours() {
    let stand = Stand::new();
    let (tracer, proxy) = stand.tracer();
    let (no_file, no_memory, nobody) = answered(&proxy, || {
        (tracer.take_fd(own_pid(), 1_000_000), tracer.read_memory(own_pid(), 1, 16), tracer.take_fd(i32::MAX, 0))
    });
    assert_eq!((errno(no_file), errno(no_memory)), (Some(libc::EBADF), Some(libc::EFAULT)));
    assert!([libc::ESRCH, libc::EINVAL].map(Some).contains(&errno(nobody)));
}

#[test]
fn nobody_is_asked_for_what_we_may_see_ourselves() {
    let stand = Stand::new();
    let (tracer, _proxy) = stand.tracer();
    let tracer = Tracer { ourselves: true, ..tracer };
    // The proxy answers nothing.
    assert_eq!(tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16).unwrap(), MARK);
    assert_eq!(errno(tracer.take_fd(own_pid(), 1_000_000)), Some(libc::EBADF));
}

#[test]
fn one_that_is_late_holds_nobody_up_twice_and_its_answer_is_not_taken_for_another() {
    let stand = Stand::new();
    let (tracer, proxy) = stand.tracer_with(SHORT);
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
    // It has little time for that, too, on a machine with much else to do.
    let look = || tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16);
    let bytes = answered(&proxy, || std::iter::repeat_with(look).find(|seen| errno_of(seen) != Some(SILENT)));
    assert_eq!(bytes.unwrap().unwrap(), MARK);
    drop(write);
    // It ends: the file that came too late was closed.
    assert_eq!(read.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_was_for_one_who_died_is_closed_with_the_line() {
    let stand = Stand::new();
    let (socket, proxy) = pair().unwrap();
    let (mut read, write) = io::pipe().unwrap();
    let wish = Wish::File { thread: own_pid(), number: write.as_raw_fd() };
    packets::send(&socket, &wish.to_bytes(1), &[]).unwrap();
    proxy.answer();
    drop((socket, write));
    assert_eq!(read.read(&mut [0]).unwrap(), 0);
    drop(stand);
}

#[test]
fn a_dead_one_is_not_waited_for() {
    let mut stand = Stand::new();
    let (tracer, _proxy) = stand.tracer();
    stand.child.kill().unwrap();
    // Who waits for it to the end has another error.
    assert_eq!(errno(tracer.read_memory(own_pid(), 0, 16)), Some(DEAD));
    assert!(is_unanswered(DEAD) && is_unanswered(SILENT) && !is_unanswered(libc::EPERM));
}

#[test]
fn stale_answers_are_passed_over_and_nonsense_is_an_error() {
    let stand = Stand::new();
    let (socket, theirs) = packets::pair().unwrap();
    let tracer = Tracer::with_patience(LONG, socket, pidfd::open(stand.pid()).unwrap());
    let tracer = Tracer { ourselves: false, ..tracer };
    let say = |question: u64, errno: u64, bytes: &[u8]| {
        let packet = [&question.to_ne_bytes()[..], &errno.to_ne_bytes(), bytes].concat();
        packets::send(&theirs, &packet, &[]).unwrap();
    };
    say(0, 0, b"stale");
    say(1, 0, b"fresh");
    assert_eq!(tracer.read_memory(1, 0, 5).unwrap(), b"fresh");
    // A file there was no room for.
    say(2, 0, b"");
    assert_eq!(errno(tracer.take_fd(1, 0)), Some(libc::EMFILE));
    packets::send(&theirs, b"short", &[]).unwrap();
    assert_eq!(errno(tracer.take_fd(1, 0)), Some(libc::EPROTO));
    say(4, u64::MAX, b"");
    assert_eq!(errno(tracer.take_fd(1, 0)), Some(libc::EPROTO));
}

#[test]
fn a_proxy_passes_over_what_it_does_not_understand() {
    let stand = Stand::new();
    let (tracer, proxy) = stand.tracer();
    let line = tracer.line.as_ref().unwrap();
    packets::send(&line.socket, b"what?", &[]).unwrap();
    packets::send(&line.socket, &[7; 40], &[]).unwrap();
    let bytes = answered(&proxy, || tracer.read_memory(own_pid(), MARK.as_ptr() as u64, 16));
    assert_eq!(bytes.unwrap(), MARK);
}

#[test]
fn questions_arrive_as_they_were_asked() {
    let wishes = [
        Wish::File { thread: i32::MAX, number: -1 },
        Wish::Memory { thread: 7, from: u64::MAX, length: u32::MAX },
        Wish::Call { thread: 1 },
    ];
    for wish in wishes {
        assert_eq!(Wish::from_bytes(&wish.to_bytes(9)), Some((9, wish)));
    }
    assert_eq!(parse_call("49 0x3 0x7ffe 0x10 0x0 0x0 0x0 0x7ffd 0x7f01\n"), Some((49, [3, 0x7ffe, 16, 0, 0, 0])));
    assert_eq!((parse_call("running\n"), parse_call("49 0x3")), (None, None));
}
