//! `sluicegate demo`: an origin app and a model provider to try the gateway on, in one process, with nothing to install.

mod faq;
mod origin;
mod png;
mod provider;
mod serve;
#[cfg(test)]
mod tests;

use crate::base::clock::Clock;
use anyhow::Context;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// What `sluicegate demo` is asked to play.
#[derive(Debug, Clone)]
pub struct Args {
    /// Where the origin app listens.
    pub origin: SocketAddr,
    /// Where the model provider listens.
    pub model: SocketAddr,
    /// How long the provider takes for a whole answer.
    pub latency: Duration,
}

/// Plays both parts until the process is told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let origin = bind(args.origin, "--origin").await?;
    let model = bind(args.model, "--model").await?;
    tracing::info!(origin = %args.origin, model = %args.model, latency = ?args.latency, "demo servers are up");
    tokio::try_join!(serve_origin(origin), serve_model(model, args.latency))?;
    Ok(())
}

/// Serves the origin app on `listener` for ever.
pub async fn serve_origin(listener: TcpListener) -> anyhow::Result<()> {
    serve::accept(listener, Arc::new(serve::Host(origin::Origin::new(Clock::system())))).await
}

/// Serves the model provider on `listener` for ever; a whole answer takes `latency`.
pub async fn serve_model(listener: TcpListener, latency: Duration) -> anyhow::Result<()> {
    serve::accept(listener, Arc::new(serve::Host(provider::Provider::new(Clock::system(), latency)))).await
}

async fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({option})"))
}
