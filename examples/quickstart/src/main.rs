//! The mesh in one program: discovery, a 95/5 split under mutual TLS, a refused intruder, live numbers.
//!
//! Nothing here is short-cut: every process-to-be is a [`mesh_core::Mesh`] of its own that joins over HTTPS with
//! a token, policy is the YAML beside this file applied through the admin API, and the numbers are
//! read from `web`'s own `/metrics`.

mod api;
mod load;
mod numbers;
mod policy;
mod report;
mod table;
mod world;

use std::time::Duration;

use clap::Parser;
use mesh_core::BoxError;
use tokio::time::Instant;

use crate::load::Load;
use crate::policy::{Split, Weights};
use crate::report::Report;
use crate::world::World;

/// How often the table is drawn anew.
const FRAME: Duration = Duration::from_secs(1);

/// A service mesh in one program.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// End by itself after this time, such as `15s`; without it Ctrl-C ends it.
    #[arg(long = "for", value_name = "DURATION", value_parser = mesh_policy::duration::parse)]
    length: Option<Duration>,
    /// Print one JSON report at the end instead of the table.
    #[arg(long)]
    json: bool,
    /// Requests that web sends each second.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests_per_second: u32,
    /// The canary's share in percent; api-stable gets the rest.
    #[arg(long, value_name = "W", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    canary_weight: u32,
    /// The share of its requests that the canary answers with 500, from 0 to 1.
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = share)]
    canary_error_rate: f64,
    /// Who writes the split: Gateway API's route or SMI's split.
    #[arg(long, value_enum, default_value_t = Split::Httproute)]
    split: Split,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "write a number from 0 to 1")?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("write a number from 0 to 1".into())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let weights = Weights::with_canary(options.canary_weight);
    let world = World::start(options.split, weights, options.canary_error_rate).await?;
    let load = Load::start(&world, options.requests_per_second);
    let started = Instant::now();

    let end = end_of(options.length);
    tokio::pin!(end);
    let mut before = numbers::scrape(world.web_metrics()).await?;
    let mut frames = tokio::time::interval_at(started + FRAME, FRAME);
    loop {
        tokio::select! {
            _ = frames.tick(), if !options.json => {
                let total = numbers::scrape(world.web_metrics()).await?;
                let recent = total
                    .backends
                    .iter()
                    .map(|(name, now)| {
                        let earlier = before.backends.get(name).cloned().unwrap_or_default();
                        (name.clone(), now.since(&earlier))
                    })
                    .collect();
                table::draw(&table::Frame {
                    total: &total,
                    recent: &recent,
                    interval: FRAME,
                    denied: load.denied(),
                    footer: &world.footer(),
                })?;
                before = total;
            }
            result = &mut end => break result?,
        }
    }

    let sums = load.stop().await;
    let length = started.elapsed();
    let report = Report::new(&world, &sums, length).await?;
    world.stop().await?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "\n{} requests, {:.2}% answered with success",
            report.requests,
            100.0 * report.success_rate
        );
    }
    Ok(())
}

/// Ends after `length`, or with Ctrl-C.
async fn end_of(length: Option<Duration>) -> std::io::Result<()> {
    let limit = async {
        match length {
            Some(length) => tokio::time::sleep(length).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = limit => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
