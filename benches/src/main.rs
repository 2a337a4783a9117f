//! What the mesh costs beside bare hyper and rustls, measured in the same run.
//!
//! Alone it does all of its parts. `compare` answers: what rate, latency, CPU and
//! memory does a request take, with and without the mesh? `instructions` answers
//! in callgrind's unit, which repeats to the digit, and `system-calls` in the kernel's.
//! The machine's name and figures stand in `benches/RESULTS.md`.

mod bare;
mod cell;
mod compare;
mod instructions;
mod load;
mod meshed;
mod probe;
mod process;
mod system_calls;
mod usage;
mod world;

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::cell::{Cell, Side};

type BoxError = mesh_core::BoxError;

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Rate, latency, CPU and memory in every cell, bare and mesh in turn; medians and spread.
    Compare(compare::Options),
    /// Instructions, allocations and looks at the clock per request, by callgrind (needs valgrind).
    Instructions(instructions::Options),
    /// System calls per request (needs strace).
    SystemCalls(system_calls::Options),
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
    runtime.block_on(run(Arguments::parse().command))
}

async fn run(command: Option<Command>) -> Result<(), BoxError> {
    match command {
        None => {
            for part in ["compare", "instructions", "system-calls"] {
                let part = Arguments::parse_from(["mesh-bench", part]);
                Box::pin(run(part.command)).await?;
                println!();
            }
            Ok(())
        }
        Some(Command::Compare(options)) => compare::run(&options).await,
        Some(Command::Instructions(options)) => instructions::run(&options).await,
        Some(Command::SystemCalls(options)) => system_calls::run(&options).await,
        Some(Command::Server(options)) => match options.side {
            Side::Bare => bare::serve(&options).await,
            Side::Mesh => meshed::serve(&options).await,
        },
        Some(Command::Client(options)) => {
            let outcome = match options.side {
                Side::Bare => bare::call(&options).await?,
                Side::Mesh => meshed::call(&options).await?,
            };
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
    }
}
