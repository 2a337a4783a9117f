//! Instructions per request by callgrind, and what else it sees: allocations, and looks at the clock.
//!
//! Two runs of different length, their difference over the requests between. A process gathers entropy when it
//! starts, and takes some tens of millions of instructions more or less for that: ten thousand requests between
//! the runs make it small.

use std::path::PathBuf;

use crate::BoxError;
use crate::cell::{Protocol, Side};
use crate::probe::{Counts, INSTRUCTIONS, Probe, Runs, Tool};
use crate::world::World;

/// How to count.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    runs: Runs,
    /// Keep callgrind's files of every cell's longer run here, for `callgrind_annotate`.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What is counted: its name, and the functions whose calls are.
const COUNTED: [(&str, &[&str]); 5] = [
    (INSTRUCTIONS, &[INSTRUCTIONS]),
    ("allocations", &["malloc", "calloc", "realloc"]),
    (
        "copies by memcpy",
        &[
            "__memcpy_avx_unaligned_erms",
            "__memmove_avx_unaligned_erms",
        ],
    ),
    (
        "polls of a task",
        &["tokio::runtime::scheduler::multi_thread::worker::Context::run_task"],
    ),
    // By the standard library: quanta calibrates itself by the system call's own name when it starts.
    (
        "looks at the clock",
        &["<std::sys::pal::unix::time::Timespec>::now"],
    ),
];

/// Prints one table per thing that is counted, one row per protocol.
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let world = World::start().await?;
    let probe = Probe {
        world: &world,
        tool: Tool::Callgrind,
        runs: options.runs,
        keep: options.keep.as_deref(),
    };
    let mut rows = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let bare = probe.per_request(Side::Bare, protocol).await?;
        let mesh = probe.per_request(Side::Mesh, protocol).await?;
        rows.push((
            protocol,
            [bare.client, bare.server, mesh.client, mesh.server],
        ));
    }
    for (name, functions) in COUNTED {
        println!("{name} per request, {}, client and server", options.runs);
        println!(
            "{:<9} {:>12} {:>12} {:>12} {:>12} {:>12}",
            "", "bare client", "bare server", "mesh client", "mesh server", "added"
        );
        for (protocol, ends) in &rows {
            let [bare_client, bare_server, mesh_client, mesh_server] =
                ends.each_ref().map(|counts| sum(counts, functions));
            let added = mesh_client + mesh_server - bare_client - bare_server;
            println!(
                "{protocol:<9} {bare_client:>12.digits$} {bare_server:>12.digits$} {mesh_client:>12.digits$} \
                 {mesh_server:>12.digits$} {added:>12.digits$}",
                digits = usize::from(name != INSTRUCTIONS),
            );
        }
        println!();
    }
    world.stop().await
}

/// The counts of all that are called one of `names`, whatever version the linker adds.
fn sum(counts: &Counts, names: &[&str]) -> f64 {
    let called = |name: &str| {
        name.split(['@', '\''])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let counted = counts
        .iter()
        .filter(|(name, _)| names.contains(&called(name).as_str()));
    counted.map(|(_, count)| count).sum()
}
