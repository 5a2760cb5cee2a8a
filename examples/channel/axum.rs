//! A web server in Rust, clustered by pmr's own channel; without pmr an ordinary one.
//!
//! ```sh
//! cargo build --example axum && PORT=3000 pmr start target/debug/examples/axum -i 4
//! ```

use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::{Router, middleware};
use pmr_worker::{self as worker, Address, Listener, Stream};

struct ChannelListener(Listener);

impl axum::serve::Listener for ChannelListener {
    type Io = Stream;
    type Addr = Address;

    async fn accept(&mut self) -> (Stream, Address) {
        self.0.accept().await
    }

    fn local_addr(&self) -> std::io::Result<Address> {
        self.0.local_addr()
    }
}

/// While the worker drains, its responses tell clients to open another connection.
async fn farewell(mut response: Response) -> Response {
    if worker::is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let app = Router::new().fallback(|| async { format!("{}\n", std::process::id()) });
    let app = app.layer(middleware::map_response(farewell));
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = worker::listener(&format!("127.0.0.1:{port}")).await?;
    axum::serve(ChannelListener(listener), app).with_graceful_shutdown(worker::drained()).await
}
