//! Which endpoint of a backend a request goes to.
//!
//! Two are drawn at random and the less loaded one is taken: nearly as good as
//! asking all, with no herd running to the one that looked best. Load is a peak
//! EWMA of latency times the requests in flight (Finagle; Linkerd). A failure is
//! observed as slow, since an endpoint that fails in a tenth of a millisecond
//! would otherwise look like the best one there is; a request that its caller gave
//! up, as one that took at least as long as the caller waited.

use std::time::{Duration, Instant};

use crate::draw::Draw;

/// How fast a peak is forgotten.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint is thought to take before it has answered.
const DEFAULT_RTT: Duration = Duration::from_millis(30);
/// How slow a failure counts where its response says nothing else.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(5);
/// How slow a failure counts at most, whatever its `Retry-After` says.
pub const MAX_PENALTY: Duration = Duration::from_secs(300);

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
        self.nanos = if rtt > self.nanos {
            rtt
        } else {
            let keep = self.kept(now);
            self.nanos * keep + rtt * (1.0 - keep)
        };
        self.at = self.at.max(now);
    }

    /// A request failed, or was told to come back after `penalty`: it counts as that
    /// slow, at most [`MAX_PENALTY`] and never as faster than the endpoint already is.
    pub fn observe_failure(&mut self, now: Instant, penalty: Duration) {
        self.raise(now, penalty);
    }

    /// A caller gave up after `waited`: the answer would have taken at least that long.
    ///
    /// Finagle and tower do the same. Without it an endpoint that never answers looks
    /// faster with every caller that goes, since the estimate only decays.
    pub fn observe_unanswered(&mut self, now: Instant, waited: Duration) {
        self.raise(now, waited);
    }

    /// Raises the estimate to `latency`; a lower bound never makes an endpoint look faster.
    fn raise(&mut self, now: Instant, latency: Duration) {
        let latency = nanos(latency.min(MAX_PENALTY));
        self.nanos = latency.max(self.nanos * self.kept(now));
        self.at = self.at.max(now);
    }

    /// What one more request would cost: latency, times those in flight with it, per weight.
    ///
    /// Without answers the latency decays towards nothing, so that an endpoint that
    /// was slow once is tried again. Infinite for weight 0.
    #[must_use]
    pub fn load(&self, now: Instant, in_flight: u32, weight: u32) -> f64 {
        let latency = self.nanos * self.kept(now);
        // At least a nanosecond, so that requests in flight always tell.
        latency.max(1.0) * (f64::from(in_flight) + 1.0) / f64::from(weight)
    }

    /// How much of the estimate time has left; a clock that went back takes nothing.
    fn kept(&self, now: Instant) -> f64 {
        let elapsed = nanos(now.saturating_duration_since(self.at));
        (-elapsed / nanos(DECAY)).exp()
    }
}

fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test may start its own clock")]
    fn start() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn every_pair_is_as_likely_and_never_twice_the_same() {
        assert_eq!(two_of(Draw(7), 0), None);
        assert_eq!(two_of(Draw(7), 1), Some((0, 0)));
        let mut counts = BTreeMap::new();
        for step in 0..12_000 {
            let pair = two_of(Draw(step * (u64::MAX / 12_000)), 4).unwrap();
            assert_ne!(pair.0, pair.1);
            *counts.entry(pair).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 12);
        assert!(
            counts
                .values()
                .all(|count: &i32| (999..=1001).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let now = start();
        let mut ewma = PeakEwma::new(now);
        ewma.observe(now, MS * 200);
        let peak = ewma.load(now, 0, 1);
        ewma.observe(now, MS);
        assert!(
            (ewma.load(now, 0, 1) - peak).abs() < 1.0,
            "a peak outlives one fast answer"
        );
        ewma.observe(now + DECAY, MS);
        let later = ewma.load(now + DECAY, 0, 1);
        assert!(
            later < peak / 2.0 && later > peak / 4.0,
            "{later} of {peak}"
        );
    }

    #[test]
    fn o10_an_endpoint_that_fails_fast_looks_slow() {
        let now = start();
        let (mut failing, mut slow) = (PeakEwma::new(now), PeakEwma::new(now));
        failing.observe_failure(now, FAILURE_PENALTY);
        slow.observe(now, MS * 500);
        assert!(!choose(failing.load(now, 0, 100), slow.load(now, 0, 100)));
    }

    #[test]
    fn a_failure_that_asks_for_nothing_makes_no_endpoint_look_faster() {
        let now = start();
        let mut ewma = PeakEwma::new(now);
        ewma.observe(now, MS * 8_000);
        let later = now + DECAY;
        let before = ewma.load(later, 0, 100);
        ewma.observe_failure(later, Duration::ZERO);
        assert!(ewma.load(later, 0, 100) >= before);
        ewma.observe_failure(later, Duration::MAX);
        let most = nanos(MAX_PENALTY) / 100.0;
        assert!(ewma.load(later, 0, 100) <= most);
    }

    #[test]
    fn an_answer_that_nobody_waited_for_took_at_least_as_long_as_they_did() {
        let now = start();
        let (mut silent, mut good) = (PeakEwma::new(now), PeakEwma::new(now));
        good.observe(now, MS * 40);
        silent.observe_unanswered(now, MS * 1_000);
        assert!(!choose(silent.load(now, 0, 100), good.load(now, 3, 100)));
        let before = silent.load(now, 0, 100);
        silent.observe_unanswered(now, MS);
        assert!(
            silent.load(now, 0, 100) >= before,
            "a hasty caller makes nobody faster"
        );
    }

    #[test]
    fn an_endpoint_without_news_becomes_worth_trying_again() {
        let now = start();
        let (mut given_up, mut used) = (PeakEwma::new(now), PeakEwma::new(now));
        given_up.observe_failure(now, FAILURE_PENALTY);
        let later = now + DECAY * 8;
        used.observe(later, MS * 30);
        assert!(choose(
            given_up.load(later, 0, 100),
            used.load(later, 0, 100)
        ));
    }

    proptest! {
        #[test]
        fn any_history_leaves_a_load_that_can_be_compared(
            history in proptest::collection::vec((0u8..3, 0u64..1 << 40, 0u64..1 << 40), 0..20),
            in_flight: u32,
        ) {
            let mut now = start();
            let mut ewma = PeakEwma::new(now);
            for (ended, wait, took) in history {
                now += Duration::from_nanos(wait);
                let before = ewma.load(now, 0, 100);
                let took = Duration::from_nanos(took);
                match ended {
                    0 => ewma.observe(now, took),
                    1 => ewma.observe_failure(now, took),
                    _ => ewma.observe_unanswered(now, took),
                }
                prop_assert!(ended == 0 || ewma.load(now, 0, 100) >= before);
                let load = ewma.load(now, in_flight, 100);
                prop_assert!(load.is_finite() && load > 0.0);
            }
        }

        #[test]
        fn two_indices_are_distinct_and_within_bounds(draw: u64, len in 2usize..10_000) {
            let (a, b) = two_of(Draw(draw), len).unwrap();
            prop_assert!(a != b && a < len && b < len);
        }
    }

    #[test]
    fn load_grows_with_requests_in_flight_and_falls_with_weight() {
        let now = start();
        let ewma = PeakEwma::new(now);
        assert!(ewma.load(now, 1, 100) > ewma.load(now, 0, 100));
        assert!(ewma.load(now, 0, 200) < ewma.load(now, 0, 100));
        assert!(ewma.load(now, 0, 0).is_infinite());
    }
}
