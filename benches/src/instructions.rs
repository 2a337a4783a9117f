//! Instructions per request by callgrind: two runs of different length, their difference over the requests between.
//!
//! A process gathers entropy when it starts, and takes some tens of millions of instructions more or less for
//! that: ten thousand requests between the runs make it small.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::cell::{Cell, Protocol, Side};
use crate::load::Outcome;
use crate::world::World;
use crate::{BoxError, meshed, process};

/// How to count.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Requests of the shorter run.
    #[arg(long, default_value_t = 1_000)]
    short: u64,
    /// Requests of the longer run.
    #[arg(long, default_value_t = 11_000)]
    long: u64,
    /// Keep callgrind's files of the mesh's longer HTTP/2 run here, for `callgrind_annotate`.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Prints one row per protocol.
pub async fn run(options: &Options) -> Result<(), BoxError> {
    if options.short >= options.long {
        return Err("--short must be less than --long".into());
    }
    let world = World::start().await?;
    println!("instructions per request, 100 B, one in flight, client and server");
    println!(
        "{:<9} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "", "bare client", "bare server", "mesh client", "mesh server", "added"
    );
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let cell = Cell {
            protocol,
            bytes: 100,
            in_flight: 1,
        };
        let bare = per_request(&world, options, Side::Bare, cell).await?;
        let mesh = per_request(&world, options, Side::Mesh, cell).await?;
        println!(
            "{:<9} {:>12} {:>12} {:>12} {:>12} {:>12}",
            cell.to_string()
                .split_whitespace()
                .next()
                .unwrap_or_default(),
            bare[0],
            bare[1],
            mesh[0],
            mesh[1],
            mesh[0] + mesh[1] - bare[0] - bare[1]
        );
    }
    world.stop().await
}

/// Instructions of client and server for one request.
async fn per_request(
    world: &World,
    options: &Options,
    side: Side,
    cell: Cell,
) -> Result<[i64; 2], BoxError> {
    let short = count(world, side, cell, options.short, None).await?;
    let keep = options.keep.as_deref().map(|folder| {
        let protocol = cell.to_string().to_lowercase();
        let protocol = protocol.split_whitespace().next().unwrap_or_default();
        folder.join(format!("{side}-{}", protocol.replace(['/', '.'], "")))
    });
    let long = count(world, side, cell, options.long, keep.as_deref()).await?;
    let between = i64::try_from(options.long - options.short)?;
    Ok([
        (long[0] - short[0]) / between,
        (long[1] - short[1]) / between,
    ])
}

/// Instructions of client and server in a run of `requests`.
async fn count(
    world: &World,
    side: Side,
    cell: Cell,
    requests: u64,
    keep: Option<&Path>,
) -> Result<[i64; 2], BoxError> {
    let folder = tempfile::tempdir()?;
    let files = [folder.path().join("client"), folder.path().join("server")];
    let mut command = under_callgrind(&files[1])?;
    command
        .arg("server")
        .arg(format!("--side={side}"))
        .args(cell.flags())
        .arg("--endpoints=1")
        .envs(
            world
                .environment(side, meshed::Role::Server, cell.protocol)
                .await?,
        );
    let server = process::start(command).await?;
    let mut command = under_callgrind(&files[0])?;
    command
        .arg("client")
        .arg(format!("--side={side}"))
        .args(cell.flags())
        .arg(format!("--server={}", server.id))
        .arg(format!("--addresses={}", server.addresses))
        .arg(format!("--requests={requests}"))
        .envs(
            world
                .environment(side, meshed::Role::Client, cell.protocol)
                .await?,
        );
    let outcome: Outcome = process::finish(command).await?;
    assert_eq!(outcome.requests, requests, "every request was answered");
    server.stop().await?;
    if let Some(keep) = keep {
        std::fs::create_dir_all(keep)?;
        for file in &files {
            let name = file.file_name().ok_or("a file has a name")?;
            std::fs::copy(file, keep.join(name))?;
        }
    }
    Ok([total(&files[0])?, total(&files[1])?])
}

fn under_callgrind(file: &Path) -> Result<Command, BoxError> {
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .stderr(Stdio::null());
    Ok(command)
}

fn total(file: &Path) -> Result<i64, BoxError> {
    let text = std::fs::read_to_string(file)?;
    let line = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or(line.strip_prefix("summary: "))
        })
        .ok_or("callgrind wrote no totals")?;
    Ok(line.trim().parse()?)
}
