//! Commands: `run`, `check`, `schema`, `key`, `purge`, `demo`.

pub mod demo;
pub mod key;
pub mod purge;

use crate::base::clock::Clock;
use crate::config::load;
use crate::observe::metrics::Metrics;
use crate::plan::shared::Shared;
use crate::server;
use anyhow::Context;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// One binary in front of your apps and your models.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    Run {
        /// The configuration file.
        #[arg(short, long, default_value = "sluicegate.yaml")]
        config: PathBuf,
    },
    /// Check a configuration: every fault at once, with file, line and a suggestion. Exit code 1 when there is one.
    Check {
        /// The configuration file.
        #[arg(short, long, default_value = "sluicegate.yaml")]
        config: PathBuf,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Make virtual keys and their hashes.
    Key {
        /// What to do.
        #[command(subcommand)]
        command: key::Command,
    },
    /// Ask a running gateway to purge its HTTP caches.
    Purge(purge::Args),
    /// Play an origin app and a model provider to try the gateway on.
    Demo {
        /// Where the app listens.
        #[arg(long, default_value = "127.0.0.1:3000")]
        origin: SocketAddr,
        /// Where the model provider listens.
        #[arg(long, default_value = "127.0.0.1:3001")]
        model: SocketAddr,
        /// How long a whole model answer takes.
        #[arg(long, default_value = "1500ms")]
        latency: crate::base::units::Dur,
    },
}

/// Runs a command.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run { config } => serve(&config),
        Command::Check { config } => check(&config),
        Command::Schema => {
            let text = serde_json::to_string_pretty(&crate::config::schema::json_schema())?;
            say(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Key { command } => key::run(&command),
        Command::Purge(args) => runtime(1)?.block_on(purge::run(args)),
        Command::Demo { origin, model, latency } => {
            let args = demo::Args { origin, model, latency: latency.0 };
            runtime(2)?.block_on(demo::run(args))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no fault.
fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Writes a complaint to standard error.
pub fn complain(text: &str) {
    // With standard error closed there is nowhere left to say it.
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("worker")
        .enable_all()
        .build()
        .context("cannot start worker threads")
}

fn serve(config: &Path) -> anyhow::Result<ExitCode> {
    // Read once before the runtime exists, because its size stands in the file; faults are reported by the start.
    let wanted = load::load(config).map(|l| l.config.server.threads).unwrap_or(0);
    let runtime = runtime(server::threads(wanted))?;
    runtime.block_on(async {
        let running = server::start(config, server::Options::default()).await?;
        if let Some(admin) = running.admin() {
            tracing::info!(%admin, "admin port");
        }
        server::signals::run_until_told(running).await
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(config: &Path) -> anyhow::Result<ExitCode> {
    // Key sets are fetched in the background by whoever holds them, which needs a runtime; nothing is bound.
    let runtime = runtime(1)?;
    let _inside = runtime.enter();
    let shared = Arc::new(Shared::for_check(Metrics::new()?, Clock::system()));
    match server::read(config, &shared) {
        Ok((loaded, plan)) => {
            for w in loaded.sources.locate(plan.warnings.clone()) {
                say(&format!("warning: {w}"))?;
            }
            say(&format!("{}: ok ({} routes, {} upstreams)", config.display(), plan.routes.len(), plan.pools.len()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(server::Faulty(faults)) => {
            for f in &faults {
                complain(&f.to_string());
            }
            complain(&format!(
                "{} fault{} in {}",
                faults.len(),
                if faults.len() == 1 { "" } else { "s" },
                config.display()
            ));
            Ok(ExitCode::FAILURE)
        }
    }
}
