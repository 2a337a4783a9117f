//! The mesh in one program: discovery, a 95/5 split under mutual TLS, a refused intruder, live numbers.
//!
//! Nothing here is short-cut: every process-to-be is a [`mesh_core::Mesh`] of its own that joins over HTTPS with
//! a token, policy is the YAML beside this file applied through the admin API, and the numbers are
//! read from `web`'s own `/metrics`.

mod api;
mod ending;
mod load;
mod numbers;
mod policy;
mod report;
mod table;
mod world;

use std::error::Error;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mesh_core::BoxError;
use tokio::time::Instant;

use crate::ending::Ending;
use crate::load::Load;
use crate::policy::{Split, Weights};
use crate::report::Report;
use crate::world::World;

/// How often the table is drawn anew.
const FRAME: Duration = Duration::from_secs(1);
/// Wrong usage, as in `sysexits.h`.
const EX_USAGE: u8 = 64;

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
async fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version are no errors. A terminal that is gone reads neither.
            drop(error.print());
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    // Many processes-to-be in one: a limit that cannot be raised may do all the same.
    drop(mesh_tls::accept::descriptors::raise());
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            table::note(&format!("quickstart: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), BoxError> {
    // Before anything is made: a signal during the start must remove the temporary folder too.
    let mut ending = Ending::new()?;
    let weights = Weights::with_canary(options.canary_weight);
    let world = tokio::select! {
        world = World::start(options.split, weights, options.canary_error_rate) => world?,
        () = ending.asked() => return Ok(()),
    };
    let load = Load::start(&world, options.requests_per_second);
    let started = Instant::now();
    let shown = show(options, &world, &load, &mut ending).await;
    if !options.json {
        table::note("stopping: requests in flight finish first; a second signal ends at once");
    }
    let length = started.elapsed();
    let finished = async {
        let sums = load.stop().await;
        let report = Report::new(&world, &sums, length).await?;
        world.stop().await?;
        Ok::<_, BoxError>(report)
    };
    let report = tokio::select! {
        report = finished => report?,
        () = ending.asked() => return Ok(()),
    };
    shown?;
    let text = if options.json {
        serde_json::to_string_pretty(&report)?
    } else {
        format!(
            "{} requests, {:.2}% answered with success",
            report.requests,
            100.0 * report.success_rate
        )
    };
    table::line(&text)?;
    Ok(())
}

/// Draws the table once a second until the time is over or a signal comes.
async fn show(
    options: &Options,
    world: &World,
    load: &Load,
    ending: &mut Ending,
) -> Result<(), BoxError> {
    let mut table = table::Table::default();
    let mut before = numbers::scrape(world.web_metrics()).await?;
    let started = Instant::now();
    let mut frames = tokio::time::interval_at(started + FRAME, FRAME);
    let end = ending.within(options.length);
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = frames.tick(), if !options.json => {}
            () = &mut end => return Ok(()),
        }
        let total = numbers::scrape(world.web_metrics()).await?;
        let recent = total.since(&before);
        let drawn = table.draw(&table::Frame {
            total: &total,
            recent: &recent,
            interval: FRAME,
            denied: load.denied(),
            footer: &world.footer(),
        });
        match drawn {
            // A reader that has gone, as of `| head`, has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            drawn => drawn?,
        }
        before = total;
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_causes() {
        let error = std::io::Error::other(std::fmt::Error);
        assert!(
            chain(&error).starts_with("an error occurred"),
            "{}",
            chain(&error)
        );
    }
}
