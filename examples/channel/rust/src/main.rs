//! A web server that gets its connections from pmr's own channel; without pmr an ordinary one. It needs no crates but
//! tokio and `pmr-worker`.
//!
//! ```sh
//! cargo build -p channel-example && PORT=3000 pmr start target/debug/channel-example -i 4
//! ```

use std::io;

use pmr_worker::Stream;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};

/// Answers requests without a body until the client closes the connection or the worker drains.
async fn serve(stream: Stream) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        if line == "\r\n" {
            let leaves = pmr_worker::is_draining();
            let close = if leaves { "Connection: close\r\n" } else { "" };
            let body = format!("{}\n", std::process::id());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            if leaves {
                break;
            }
        }
        line.clear();
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let mut listener = pmr_worker::listener(&format!("127.0.0.1:{port}")).await?;
    let mut connections = tokio::task::JoinSet::new();
    let mut drained = std::pin::pin!(pmr_worker::drained());
    loop {
        tokio::select! {
            (stream, _) = listener.accept() => drop(connections.spawn(serve(stream))),
            Some(_) = connections.join_next() => {}
            () = &mut drained => return Ok(()),
        }
    }
}
