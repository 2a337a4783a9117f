//! What a server does by itself, beside answering.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Shared;
use crate::supervise::Tasks;
use crate::watch as watches;
use crate::worlds::{self, Reader};

/// How often what nobody can use any more is removed from the store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How often is looked whether the store takes writes.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// How long before its end a certificate of the CA is warned of, and how often.
const WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn spawn(tasks: &mut Tasks, shared: &Shared, reader: Reader) {
    tasks.spawn("the sweep of what has ended", sweep(Arc::clone(shared)));
    tasks.spawn("the store", storage(Arc::clone(shared)));
    let ending = shared.ending.clone();
    let expire = watches::expire(Arc::clone(&shared.sessions), ending.clone());
    tasks.spawn("the end of watches", expire);
    let worlds = Arc::clone(&shared.worlds);
    let metrics = Arc::clone(&shared.metrics);
    let current = worlds::keep_current(reader, worlds, metrics, ending);
    tasks.spawn("the making of plans", current);
}

async fn sweep(shared: Shared) {
    let mut ending = shared.ending.clone();
    let mut warned: Option<Instant> = None;
    loop {
        let now = SystemTime::now();
        if warned.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL) {
            warned = Some(Instant::now());
            warn_of_ends(&shared, now);
        }
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        }
        let now = SystemTime::now();
        shared.statistics.sweep();
        if let Err(error) = shared.tokens.sweep(now).await {
            tracing::warn!(%error, "ended tokens could not be removed");
        }
        if let Err(error) = shared.enroller.sweep(now).await {
            tracing::warn!(%error, "old answers to enrolments could not be removed");
        }
    }
}

/// Says in advance which certificate of the CA is about to end.
fn warn_of_ends(shared: &Shared, now: SystemTime) {
    let issuer = &shared.issuer;
    let ends = [
        (issuer.root_not_after(), "the root: make a new CA in time"),
        (
            issuer.not_after(),
            "the issuer: sign a new one with its root in time",
        ),
    ];
    for (end, remedy) in ends {
        let left = end.duration_since(now).unwrap_or_default();
        if left < WARNING {
            let days = left.as_secs() / (24 * 60 * 60);
            tracing::warn!(
                days,
                "a certificate of the CA ends in less than 30 days, {remedy}"
            );
        }
    }
}

/// Ends with the store. While nothing can be written, tries again by and by, so that the store
/// is found to be well also where nobody asks.
async fn storage(shared: Shared) {
    let mut ending = shared.ending.clone();
    loop {
        let trouble = shared.store.trouble();
        let writable = if trouble.is_none() { 1.0 } else { 0.0 };
        shared.metrics.store_writable.set(writable);
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            () = shared.store.ended() => return,
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
        }
        if trouble.is_some() {
            // Nothing is written; the answer is what the next look finds.
            drop(shared.store.commit(Vec::new()).await);
        }
    }
}
