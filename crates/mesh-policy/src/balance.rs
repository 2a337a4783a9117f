//! Which endpoint of a backend a request goes to.
//!
//! Two are drawn at random and the less loaded one is taken: nearly as good as
//! asking all, with no herd running to the one that looked best. Load is a peak
//! EWMA of latency times the requests in flight (Finagle; Linkerd). A failure is
//! observed as slow, since an endpoint that fails in a tenth of a millisecond
//! would otherwise look like the best one there is.

use std::time::{Duration, Instant};

use crate::draw::Draw;

/// How fast a peak is forgotten.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint is thought to take before it has answered.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
/// How slow a failure counts at least.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(5);

/// Latency of one endpoint: peaks at once, forgets slowly.
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    nanos: f64,
    at: Instant,
}

impl PeakEwma {
    /// An endpoint that has not answered yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            nanos: nanos(DEFAULT_RTT),
            at: now,
        }
    }

    /// A response took `rtt`.
    pub fn observe(&mut self, now: Instant, rtt: Duration) {
        let rtt = nanos(rtt);
        let elapsed = nanos(now.saturating_duration_since(self.at));
        self.at = self.at.max(now);
        self.nanos = if rtt > self.nanos {
            rtt
        } else {
            let keep = (-elapsed / nanos(DECAY)).exp();
            self.nanos * keep + rtt * (1.0 - keep)
        };
    }

    /// A request failed, or was told to come back after `penalty`: it counts as that slow.
    pub fn observe_failure(&mut self, now: Instant, penalty: Duration) {
        self.observe(now, penalty);
    }

    /// What one more request would cost: latency, times those in flight with it, per weight.
    ///
    /// Without answers the latency decays towards nothing, so that an endpoint that
    /// was slow once is tried again. Infinite for weight 0.
    #[must_use]
    pub fn load(&self, now: Instant, in_flight: u32, weight: u32) -> f64 {
        let elapsed = nanos(now.saturating_duration_since(self.at));
        let latency = self.nanos * (-elapsed / nanos(DECAY)).exp();
        // At least a nanosecond, so that requests in flight always tell.
        latency.max(1.0) * (f64::from(in_flight) + 1.0) / f64::from(weight)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "latencies are far below 2^52 ns"
)]
fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Two different indices below `len`, every pair as likely; both 0 for one; `None` for none.
#[must_use]
pub fn two_of(draw: Draw, len: usize) -> Option<(usize, usize)> {
    let count = u64::try_from(len).ok()?;
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let pair = draw.below(count * (count - 1));
            let (first, second) = (pair / (count - 1), pair % (count - 1));
            let second = if second >= first { second + 1 } else { second };
            Some((usize::try_from(first).ok()?, usize::try_from(second).ok()?))
        }
    }
}

/// Whether the first of two loads is the one to take; the first wins a tie.
#[must_use]
pub fn choose(first: f64, second: f64) -> bool {
    first <= second
}
