//! System calls per request by strace, at either end and by name.
//!
//! What a request costs the kernel is in no count of instructions, and is most of what it costs while it is alone:
//! a timer that wakes its own runtime shows here and nowhere else.

use std::collections::BTreeSet;

use crate::BoxError;
use crate::cell::{Protocol, Side};
use crate::probe::{Probe, Runs, Tool};
use crate::world::World;

/// How to count.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    runs: Runs,
}

/// Fewer calls than this per request are not a request's own.
const SHOWN: f64 = 0.02;

/// Prints one table per protocol, one row per system call.
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let world = World::start().await?;
    let probe = Probe {
        world: &world,
        tool: Tool::Strace,
        runs: options.runs,
        keep: None,
    };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let bare = probe.per_request(Side::Bare, protocol).await?;
        let mesh = probe.per_request(Side::Mesh, protocol).await?;
        let ends = [&bare.client, &bare.server, &mesh.client, &mesh.server];
        println!(
            "system calls per request, {protocol}, {}, client and server",
            options.runs
        );
        println!(
            "{:<15} {:>12} {:>12} {:>12} {:>12}",
            "", "bare client", "bare server", "mesh client", "mesh server"
        );
        let names: BTreeSet<_> = ends.iter().flat_map(|counts| counts.keys()).collect();
        for name in names {
            let [a, b, c, d] = ends.map(|counts| counts.get(name).copied().unwrap_or_default());
            if [a, b, c, d].into_iter().any(|count| count > SHOWN) {
                println!("{name:<15} {a:>12.2} {b:>12.2} {c:>12.2} {d:>12.2}");
            }
        }
        println!();
    }
    world.stop().await
}
