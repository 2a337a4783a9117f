//! The whole table: every cell, bare and mesh in turn.

use tokio::process::Command;

use crate::cell::{Cell, Side};
use crate::load::Outcome;
use crate::world::World;
use crate::{BoxError, meshed, process, usage};

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

/// What was measured in one cell.
struct Row {
    cell: Cell,
    /// One outcome per round, bare and mesh.
    outcomes: [Vec<Outcome>; 2],
    /// Resident memory of either server after its last run, in bytes.
    resident: [u64; 2],
}

/// Prints one row per cell.
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let world = World::start().await?;
    println!(
        "{} rounds of {} ms, {} endpoints, one worker per process; medians, bare then mesh",
        options.rounds, options.milliseconds, options.endpoints
    );
    println!("CPU: seconds per 100,000 requests, of client, server and discovery together");
    println!(
        "{:<20} {:>15} {:>11} {:>11} {:>15} {:>7} {:>13} {:>13}",
        "cell", "rps", "p50 us", "p99 us", "CPU s/100k", "ratio", "(min..max)", "server MiB"
    );
    for cell in Cell::all() {
        println!("{}", line(&measure(&world, options, cell).await?));
    }
    world.stop().await
}

async fn measure(world: &World, options: &Options, cell: Cell) -> Result<Row, BoxError> {
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
    let mut resident = [0; 2];
    for (server, resident) in servers.into_iter().zip(&mut resident) {
        *resident = usage::resident(server.id)?;
        server.stop().await?;
    }
    Ok(Row {
        cell,
        outcomes,
        resident,
    })
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
fn line(row: &Row) -> String {
    let cost = |outcome: &Outcome| outcome.cpu_seconds * 1e5 / outcome.requests.max(1) as f64;
    let [bare, mesh] = &row.outcomes;
    let of = |figure: &dyn Fn(&Outcome) -> f64| {
        [bare, mesh].map(|runs| median(runs.iter().map(figure).collect()))
    };
    let pairs = bare.iter().zip(mesh);
    let ratios: Vec<_> = pairs.map(|(bare, mesh)| cost(mesh) / cost(bare)).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    let rps = of(&|outcome| outcome.requests as f64 / outcome.seconds);
    let p50 = of(&|outcome| outcome.p50_us as f64);
    let p99 = of(&|outcome| outcome.p99_us as f64);
    let cpu = of(&cost);
    let memory = row.resident.map(|bytes| bytes as f64 / (1024.0 * 1024.0));
    format!(
        "{} {:>7.0} {:>7.0} {:>5.0} {:>5.0} {:>5.0} {:>5.0} {:>7.2} {:>7.2} {:>7.3} {:>6.2}..{:<5.2} {:>6.1} {:>6.1}",
        row.cell,
        rps[0],
        rps[1],
        p50[0],
        p50[1],
        p99[0],
        p99[1],
        cpu[0],
        cpu[1],
        median(ratios),
        least,
        most,
        memory[0],
        memory[1],
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
