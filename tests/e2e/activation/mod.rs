//! Socket activation: programs that inherit their sockets, that send notifications, and that run on demand.

mod datagrams;
mod demand;
mod load;
mod notify;
mod programs;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::eventually::WAIT_LIMIT;
use crate::support::{Home, example, http};

/// A home with the example app, started with these options beside its TCP socket, and the port.
fn serving(words: &str) -> (Home, u16) {
    let (home, port) = (Home::new(), http::free_port());
    home.serve(port, &format!("{} -n a --listen tcp://127.0.0.1:{port} {words}", example("activated.py")));
    (home, port)
}

/// The pid of the worker that answers.
#[track_caller]
fn answering(port: u16) -> i32 {
    http::get(port, "/").expect("an answer").parse().expect("a pid")
}

/// The body of the response to `GET path` at a Unix path.
fn get_unix(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(WAIT_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.ok_or_else(|| std::io::Error::other(answer))
}
