//! A minimal HTTP client that shows which worker answered.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::eventually::WAIT_LIMIT;
pub use super::ports::free_port;

/// The body of the response to `GET path`, on a new connection.
pub fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(WAIT_LIMIT))?;
    // The request is one write: the server of PHP cannot read it otherwise.
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.trim().to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {answer:?}"))),
    }
}
