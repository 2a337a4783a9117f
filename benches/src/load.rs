//! A closed loop of callers, the same for both sides.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{BoxError, usage};

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After this many requests.
    Requests(u64),
}

/// What one run of a client saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests answered in full.
    pub requests: u64,
    /// Time from the first request to the last answer.
    pub seconds: f64,
    /// CPU of client, server and discovery together in that time.
    pub cpu_seconds: f64,
    /// Latencies in microseconds.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
}

/// One caller of the loop: sends a request and reads the whole answer.
pub trait Caller: Send + 'static {
    /// Sends one request and gives the bytes of its answer's body.
    fn call(&mut self) -> impl Future<Output = Result<usize, BoxError>> + Send;
}

/// Warms every caller up, then runs them all until the limit.
pub async fn run<C: Caller>(
    mut callers: Vec<C>,
    limit: Limit,
    server: u32,
) -> Result<Outcome, BoxError> {
    for caller in &mut callers {
        for _ in 0..20 {
            caller.call().await?;
        }
    }
    let started = Instant::now();
    // The parent is discovery, and does nothing else while a client runs.
    let processes = [
        std::process::id(),
        server,
        std::os::unix::process::parent_id(),
    ];
    let cpu_before = spent(&processes)?;
    let taken = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|caller| tokio::spawn(repeat(caller, limit, started, taken.clone())))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = spent(&processes)?.saturating_sub(cpu_before);
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied();
    Ok(Outcome {
        requests: latencies.len() as u64,
        seconds,
        cpu_seconds: cpu.as_secs_f64(),
        p50_us: at(50).unwrap_or(0),
        p99_us: at(99).unwrap_or(0),
    })
}

async fn repeat<C: Caller>(
    mut caller: C,
    limit: Limit,
    started: Instant,
    taken: Arc<AtomicU64>,
) -> Result<Vec<u64>, BoxError> {
    let mut latencies = Vec::new();
    let mut before = Instant::now();
    loop {
        let more = match limit {
            Limit::Time(limit) => before.duration_since(started) < limit,
            Limit::Requests(count) => taken.fetch_add(1, Ordering::Relaxed) < count,
        };
        if !more {
            return Ok(latencies);
        }
        caller.call().await?;
        let now = Instant::now();
        let micros = now.duration_since(before).as_micros();
        latencies.push(u64::try_from(micros).unwrap_or(u64::MAX));
        before = now;
    }
}

fn spent(processes: &[u32]) -> std::io::Result<Duration> {
    processes.iter().map(|process| usage::spent(*process)).sum()
}
