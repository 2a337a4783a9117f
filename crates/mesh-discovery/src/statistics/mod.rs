//! What processes have reported of their traffic, for a while and in memory.
//!
//! ```text
//! report ─▶ Reporter (one an identity) ─▶ slots of 10 s ─▶ minutes ─▶ forgotten after ten
//!                                              └──── window ────┘─▶ sums
//! ```
//!
//! Kept apart by the identity that reported: a process is believed about its own traffic and no
//! other's. What an identity keeps is bounded in bytes, and so is what all keep.
//!
//! - [`reporter`]: what one identity reported.
//! - [`window`]: which time a slot covers: pure.
//! - [`packed`]: outcomes in few bytes.

mod packed;
mod reporter;
mod window;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_policy::report::latency::Latencies;
use mesh_policy::report::traffic::{FlowKey, Traffic};
use metrics::Gauge;
use tokio::time::Instant;

use self::reporter::{Counts, Reporter};
pub(crate) use self::window::LONGEST;
use self::window::{Now, Share};
use crate::quota::{Bounds, Quota};

/// What reported traffic takes up.
const BYTES: Bounds = Bounds {
    of: "reported traffic",
    one: 8 * 1024 * 1024,
    all: 256 * 1024 * 1024,
};

/// The traffic of all processes.
#[derive(Debug)]
pub(crate) struct Statistics {
    started: Instant,
    quota: Arc<Quota>,
    /// Locked only to find one; what a reporter holds has a lock of its own.
    reporters: Mutex<BTreeMap<Identity, Arc<Mutex<Reporter>>>>,
}

/// Requests of one flow in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Requests that succeeded.
    pub(crate) success: u64,
    /// Requests that failed.
    pub(crate) failure: u64,
    /// How long the first data took, of those that had an answer.
    pub(crate) latency: Latencies,
}

impl Sum {
    fn new(counts: &Counts, share: Share) -> Self {
        let mut latency = counts.success.latency();
        latency.merge(&counts.failure.latency());
        Self {
            success: share.of(counts.success.count()),
            failure: share.of(counts.failure.count()),
            latency,
        }
    }

    /// Adds another's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.success = self.success.saturating_add(other.success);
        self.failure = self.failure.saturating_add(other.failure);
        self.latency.merge(&other.latency);
    }

    /// All requests.
    pub(crate) const fn requests(&self) -> u64 {
        self.success.saturating_add(self.failure)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Statistics {
    /// Nothing yet; `gauge` shows how many bytes are kept.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self {
            started: Instant::now(),
            quota: Quota::new(BYTES, gauge),
            reporters: Mutex::default(),
        }
    }

    /// Counts what `identity`, which has so many `processes`, reports, once; how many flows were
    /// not kept.
    pub(crate) fn add(&self, identity: &Identity, traffic: Traffic, processes: usize) -> usize {
        let now = self.now();
        let reporter = {
            let mut reporters = lock(&self.reporters);
            let reporter = reporters.entry(identity.clone());
            let new = || Arc::new(Mutex::new(Reporter::new(self.quota.open(identity))));
            Arc::clone(reporter.or_insert_with(new))
        };
        lock(&reporter).add(now, traffic, processes)
    }

    /// Whether a flow of this key was kept of `identity` lately.
    pub(crate) fn has_reported(&self, identity: &Identity, key: &FlowKey) -> bool {
        let reporter = lock(&self.reporters).get(identity).cloned();
        reporter.is_some_and(|reporter| lock(&reporter).has_reported(key))
    }

    /// Hands every flow of the last `window`, [`LONGEST`] at most, that is `wanted` to `each`, with its reporter; a flow
    /// comes once for each slot. No lock is held meanwhile.
    pub(crate) fn within(
        &self,
        window: Duration,
        wanted: impl Fn(&FlowKey) -> bool,
        mut each: impl FnMut(&Identity, &FlowKey, Sum),
    ) {
        let (now, window) = (self.now(), window.min(LONGEST));
        let reporters: Vec<_> = {
            let reporters = lock(&self.reporters);
            let all = reporters.iter();
            all.map(|(identity, reporter)| (identity.clone(), Arc::clone(reporter)))
                .collect()
        };
        for (identity, reporter) in reporters {
            let slots = lock(&reporter).within(now, window);
            for (share, slot) in slots {
                for (key, counts) in slot.flows().filter(|(key, _)| wanted(key)) {
                    each(&identity, key, Sum::new(counts, share));
                }
            }
        }
    }

    /// Forgets what no window reaches any more, of identities too that report nothing.
    pub(crate) fn sweep(&self) {
        let now = self.now();
        let all: Vec<_> = lock(&self.reporters).values().cloned().collect();
        for reporter in all {
            lock(&reporter).roll(now);
        }
        // Nobody adds to one meanwhile: finding it takes this lock.
        lock(&self.reporters)
            .retain(|_, reporter| Arc::strong_count(reporter) > 1 || lock(reporter).roll(now));
    }

    fn now(&self) -> Now {
        Now::new(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests;
