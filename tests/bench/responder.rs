//! The server of `share.mjs`: the same hyper for all ways to share a port. With the argument `reuseport` it binds with
//! SO_REUSEPORT itself. Otherwise it takes connections from the channel of pmr if `PMR_CHANNEL_FD` is set, and binds as
//! usual if not.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::{env, io};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

async fn answer(_: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
}

fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    tokio::spawn(async move {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
    });
}

async fn plain(address: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    let listener = socket.listen(1024)?;
    loop {
        serve(listener.accept().await?.0);
    }
}

async fn shared(address: SocketAddr) -> io::Result<()> {
    let mut listener = pmr_worker::listener(&address.to_string()).await?;
    loop {
        serve(listener.accept().await.0);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let port = env::var("PORT").map_or(3000, |port| port.parse().expect("PORT is a number"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    if env::args().nth(1).as_deref() == Some("reuseport") { plain(address).await } else { shared(address).await }
}
