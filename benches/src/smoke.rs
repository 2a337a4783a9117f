//! CPU per request of both ends together, in every cell, bare and mesh in turn.

use std::collections::BTreeMap;

use tokio::process::Command;

use crate::cell::{Cell, Protocol, Side};
use crate::load::Outcome;
use crate::{BoxError, bare, meshed, process};

/// How to measure.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Pairs of runs per cell.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one run.
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
    /// Listeners of either server; the bare client uses as many connections.
    #[arg(long, default_value_t = 3)]
    endpoints: usize,
}

/// Prints one row per cell.
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let world = World::start().await?;
    println!(
        "CPU µs per request of client and server together; {} rounds of {} ms, {} endpoints, one worker per process",
        options.rounds, options.milliseconds, options.endpoints
    );
    println!(
        "{:<20} {:>8} {:>8} {:>7} {:>13} {:>9} {:>9} {:>9} {:>9}",
        "cell",
        "bare",
        "mesh",
        "ratio",
        "(min..max)",
        "bare rps",
        "mesh rps",
        "bare p99",
        "mesh p99"
    );
    for cell in Cell::all() {
        let row = measure(&world, options, cell).await?;
        println!("{row}");
    }
    world.stop().await
}

/// What both sides need before the first child starts.
pub struct World {
    pem: String,
    discovery: meshed::Discovery,
}

impl World {
    /// Makes certificates and starts discovery.
    pub async fn start() -> Result<Self, BoxError> {
        Ok(Self {
            pem: bare::certificates()?,
            discovery: meshed::Discovery::start().await?,
        })
    }

    /// Ends discovery.
    pub async fn stop(self) -> Result<(), BoxError> {
        self.discovery.stop().await
    }

    /// The environment of a child: its certificates, or its way into the mesh.
    pub async fn environment(
        &self,
        side: Side,
        role: meshed::Role,
        protocol: Protocol,
    ) -> Result<BTreeMap<String, String>, BoxError> {
        match side {
            Side::Bare => Ok(BTreeMap::from([(bare::PEM.into(), self.pem.clone())])),
            Side::Mesh => self.discovery.environment(role, protocol).await,
        }
    }
}

async fn measure(world: &World, options: &Options, cell: Cell) -> Result<String, BoxError> {
    let sides = [Side::Bare, Side::Mesh];
    let mut servers = Vec::new();
    for side in sides {
        servers.push(start_server(world, options, side, cell).await?);
    }
    let mut outcomes: [Vec<Outcome>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        for (index, side) in sides.into_iter().enumerate() {
            let server = &servers[index];
            let mut command = Command::new(std::env::current_exe()?);
            command
                .arg("client")
                .arg(format!("--side={side}"))
                .args(cell.flags())
                .arg(format!("--server={}", server.id))
                .arg(format!("--addresses={}", server.addresses))
                .arg(format!("--milliseconds={}", options.milliseconds))
                .envs(
                    world
                        .environment(side, meshed::Role::Client, cell.protocol)
                        .await?,
                );
            outcomes[index].push(process::finish(command).await?);
        }
    }
    for server in servers {
        server.stop().await?;
    }
    Ok(row(cell, &outcomes))
}

async fn start_server(
    world: &World,
    options: &Options,
    side: Side,
    cell: Cell,
) -> Result<process::Server, BoxError> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("server")
        .arg(format!("--side={side}"))
        .args(cell.flags())
        .arg(format!("--endpoints={}", options.endpoints))
        .envs(
            world
                .environment(side, meshed::Role::Server, cell.protocol)
                .await?,
        );
    process::start(command).await
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a bench are far below 2^52"
)]
fn row(cell: Cell, [bare, mesh]: &[Vec<Outcome>; 2]) -> String {
    let cost = |outcome: &Outcome| outcome.cpu_seconds * 1e6 / outcome.requests.max(1) as f64;
    let rate = |outcome: &Outcome| outcome.requests as f64 / outcome.seconds;
    let tail = |outcome: &Outcome| outcome.p99_us as f64;
    let ratios: Vec<_> = bare
        .iter()
        .zip(mesh)
        .map(|(bare, mesh)| cost(mesh) / cost(bare))
        .collect();
    let of = |runs: &[Outcome], figure: &dyn Fn(&Outcome) -> f64| {
        median(runs.iter().map(figure).collect())
    };
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!(
        "{cell} {:>8.2} {:>8.2} {:>7.3} {:>6.2}..{:<5.2} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
        of(bare, &cost),
        of(mesh, &cost),
        median(ratios),
        least,
        most,
        of(bare, &rate),
        of(mesh, &rate),
        of(bare, &tail),
        of(mesh, &tail),
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
