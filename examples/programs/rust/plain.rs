//! The standard library alone.   rustc -O plain.rs && PORT=3000 pmr start ./plain -i 4
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::{env, io, process, thread, time::Duration};

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next().transpose()? {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        if request.starts_with("GET /work ") {
            thread::sleep(Duration::from_millis(30));
        }
        let body = format!("{}\n", process::id());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let port = env::var("PORT").map_or(3000, |port| port.parse().expect("PORT is a number"));
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming().flatten() {
        thread::spawn(|| serve(stream));
    }
    Ok(())
}
