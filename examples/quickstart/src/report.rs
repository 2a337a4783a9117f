//! The one JSON report of `--json`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_core::BoxError;
use serde::Serialize;

use crate::load::Sums;
use crate::numbers::{self, Backend, Numbers, Retries};
use crate::world::World;

/// All that a run showed.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Length of the load.
    pub duration_seconds: f64,
    /// Calls of `web`.
    pub requests: u64,
    /// Share of them that succeeded.
    pub success_rate: f64,
    /// Retries of `web`.
    pub retries: Retries,
    /// Calls of the intruder.
    pub denied: Denied,
    /// What each backend of the split got, by `web`'s metrics.
    pub backends: BTreeMap<String, BackendReport>,
    /// What the handlers saw of their connections.
    pub tls: Option<Tls>,
    /// Where to look.
    pub addresses: Addresses,
}

impl Report {
    /// Sums a run of `length` up.
    pub async fn new(world: &World, sums: &Sums, length: Duration) -> Result<Self, BoxError> {
        let Numbers { backends, retries } = numbers::scrape(world.web_metrics()).await?;
        let answered: f64 = backends.values().map(|backend| backend.answered).sum();
        let requests = sums.requests.load(Ordering::Relaxed);
        let succeeded = sums.succeeded.load(Ordering::Relaxed);
        Ok(Self {
            duration_seconds: length.as_secs_f64(),
            requests,
            success_rate: share(succeeded, requests),
            retries,
            denied: Denied::new(world, sums),
            backends: backends
                .iter()
                .map(|(name, backend)| (name.clone(), BackendReport::new(backend, answered)))
                .collect(),
            tls: world.seen().tls.get().cloned(),
            addresses: Addresses {
                discovery: world.discovery(),
                dashboard: None,
                metrics: world.metrics(),
            },
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a demo are far below 2^52"
)]
fn share(part: u64, whole: u64) -> f64 {
    if whole > 0 {
        part as f64 / whole as f64
    } else {
        0.0
    }
}

/// What the intruder met.
#[derive(Debug, Serialize)]
pub struct Denied {
    /// Its calls.
    pub requests: u64,
    /// The status of all of them; null if they were not all alike.
    pub status: Option<u16>,
    /// How many the application saw.
    pub reached_application: u64,
}

impl Denied {
    fn new(world: &World, sums: &Sums) -> Self {
        let statuses = sums.statuses.lock().expect("no holder panics");
        let only = (statuses.len() == 1).then(|| statuses.first().copied());
        Self {
            requests: sums.intrusions.load(Ordering::Relaxed),
            status: only.flatten(),
            reached_application: world.seen().intrusions.load(Ordering::Relaxed),
        }
    }
}

/// One backend of the split.
#[derive(Debug, Serialize)]
pub struct BackendReport {
    requests: u64,
    share: f64,
    success_rate: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    mtls_share: f64,
}

impl BackendReport {
    /// Sums `backend` up, as a share of `total` answers.
    pub fn new(backend: &Backend, total: f64) -> Self {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let quantile = |share| {
            backend
                .quantile(share)
                .map_or(0.0, |found| found.milliseconds)
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counters are whole numbers from 0 up"
        )]
        let requests = backend.answered as u64;
        Self {
            requests,
            share: share(backend.answered, total),
            success_rate: share(backend.succeeded, backend.answered),
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            mtls_share: share(backend.over_mtls, backend.answered),
        }
    }
}

/// What two peers agreed on.
#[derive(Clone, Debug, Serialize)]
pub struct Tls {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub suite: String,
    /// The key exchange group.
    pub group: String,
}

/// Where to look.
#[derive(Debug, Serialize)]
pub struct Addresses {
    /// Discovery's HTTPS address.
    pub discovery: String,
    /// The dashboard, once there is one.
    pub dashboard: Option<String>,
    /// The metrics of every process, `web` first.
    pub metrics: Vec<SocketAddr>,
}
