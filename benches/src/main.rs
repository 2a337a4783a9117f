//! What the mesh costs beside bare hyper and rustls, measured in the same run.
//!
//! `smoke` answers: how much CPU does a request cost, of both ends together, with
//! and without the mesh? `instructions` answers the same in callgrind's unit,
//! which repeats to the digit. The machine's name and figures stand in
//! `benches/RESULTS.md`.

mod bare;
mod cell;
mod cpu;
mod instructions;
mod load;
mod meshed;
mod process;
mod smoke;

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::cell::{Cell, Side};

type BoxError = mesh_core::BoxError;

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// CPU per request in every cell, bare and mesh in turn; medians and spread.
    Smoke(smoke::Options),
    /// Instructions per request by callgrind (needs valgrind).
    Instructions(instructions::Options),
    /// One server process (started by the other commands).
    #[command(hide = true)]
    Server(ServerOptions),
    /// One client process (started by the other commands).
    #[command(hide = true)]
    Client(ClientOptions),
}

/// What a server process is told.
#[derive(clap::Args, Clone, Debug)]
struct ServerOptions {
    #[arg(long)]
    side: Side,
    #[command(flatten)]
    cell: Cell,
    /// How many listeners, each an endpoint of its own.
    #[arg(long, default_value_t = 3)]
    endpoints: usize,
}

/// What a client process is told.
#[derive(clap::Args, Clone, Debug)]
struct ClientOptions {
    #[arg(long)]
    side: Side,
    #[command(flatten)]
    cell: Cell,
    /// Where the bare server listens.
    #[arg(long, value_delimiter = ',')]
    addresses: Vec<std::net::SocketAddr>,
    /// The server's process, whose CPU counts too.
    #[arg(long)]
    server: u32,
    /// Stop after this many requests.
    #[arg(long)]
    requests: Option<u64>,
    /// Stop after this many milliseconds.
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
}

impl ClientOptions {
    fn limit(&self) -> load::Limit {
        self.requests.map_or_else(
            || load::Limit::Time(Duration::from_millis(self.milliseconds)),
            load::Limit::Requests,
        )
    }
}

fn main() -> Result<(), BoxError> {
    // One worker per process, so that CPU figures are of the code and not of the scheduler.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    match Arguments::parse().command {
        Command::Smoke(options) => runtime.block_on(smoke::run(&options)),
        Command::Instructions(options) => runtime.block_on(instructions::run(&options)),
        Command::Server(options) => runtime.block_on(async {
            match options.side {
                Side::Bare => bare::serve(&options).await,
                Side::Mesh => meshed::serve(&options).await,
            }
        }),
        Command::Client(options) => runtime.block_on(async {
            let outcome = match options.side {
                Side::Bare => bare::call(&options).await?,
                Side::Mesh => meshed::call(&options).await?,
            };
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }),
    }
}
