//! A plain web server; it knows nothing of clusters.
//!
//! ```sh
//! rustc -O examples/servers/server.rs && PORT=3000 pmr start ./server -i 4
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    let request = BufReader::new(client.try_clone()?);
    for line in request.lines() {
        if line?.is_empty() {
            break;
        }
    }
    let body = format!("{}\n", std::process::id());
    write!(client, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    for client in TcpListener::bind(format!("127.0.0.1:{port}"))?.incoming() {
        let client = client?;
        std::thread::spawn(|| answer(client));
    }
    Ok(())
}
