//! axum.   cargo build --release && PORT=3000 pmr start target/release/axum-server -i 4
use std::{env, io, process, time::Duration};

use axum::{Router, routing::get};
use tokio::net::TcpListener;

async fn pid() -> String {
    format!("{}\n", process::id())
}

async fn work() -> String {
    tokio::time::sleep(Duration::from_millis(30)).await;
    pid().await
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = env::var("PORT").map_or(3000, |port| port.parse().expect("PORT is a number"));
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    axum::serve(listener, Router::new().route("/", get(pid)).route("/work", get(work))).await
}
