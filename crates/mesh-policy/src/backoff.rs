//! How long to wait before the next try.
//!
//! Doubling gives a server in trouble room; drawing keeps those who failed
//! together from coming back together. Each wait lies between one and two times
//! its step, so that it is never shorter than what was written (GEP-1731 calls
//! that the minimum) and never the same for everybody, not even the longest.

use std::time::Duration;

use crate::draw::Draw;

/// The shortest wait where a rule says nothing; Linkerd's.
const BASE: Duration = Duration::from_millis(25);

/// The longest wait is this many times the shortest: Linkerd's 25 ms and 250 ms.
const SPREAD: u32 = 10;

/// Exponential waits with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
}

impl Default for Backoff {
    /// From 25 ms to 250 ms.
    fn default() -> Self {
        Self::from_base(BASE)
    }
}

impl Backoff {
    /// Waits from `base` to ten times as long; a base of nothing waits not at all.
    #[must_use]
    pub const fn from_base(base: Duration) -> Self {
        Self { base }
    }

    /// The wait before a retry that `earlier` retries went before.
    #[must_use]
    pub fn wait(&self, earlier: u32, draw: Draw) -> Duration {
        // Half of the longest, since a draw may double it.
        let most = self.base.saturating_mul(SPREAD) / 2;
        let factor = 2_u32.checked_pow(earlier).unwrap_or(u32::MAX);
        let step = self.base.saturating_mul(factor).min(most);
        let nanos = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        step.saturating_add(Duration::from_nanos(draw.below(nanos)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(earlier: u32, draw: u64) -> u128 {
        Backoff::default().wait(earlier, Draw(draw)).as_millis()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let least = [0, 1, 2, 3, 4, 90].map(|earlier| millis(earlier, 0));
        assert_eq!(least, [25, 50, 100, 125, 125, 125]);
        let most = [0, 1, 2, 3, 4, 90].map(|earlier| millis(earlier, u64::MAX));
        assert_eq!(most, [49, 99, 199, 249, 249, 249]);
    }

    #[test]
    fn nothing_is_no_wait() {
        let none = Backoff::from_base(Duration::ZERO);
        assert_eq!(none.wait(3, Draw(u64::MAX)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn o03_a_wait_is_at_least_the_written_one_and_differs_from_draw_to_draw(
            base in 1u64..100_000, earlier in 0u32..200, a: u64, b: u64,
        ) {
            let base = Duration::from_millis(base);
            let backoff = Backoff::from_base(base);
            let wait = |draw| backoff.wait(earlier, Draw(draw));
            prop_assert!(wait(a) >= base && wait(a) < base * SPREAD);
            // A hundredth of the range apart is a hundredth of a base apart, also for the longest.
            if a.abs_diff(b) > u64::MAX / 100 {
                prop_assert!(wait(a).abs_diff(wait(b)) >= base / 101);
            }
        }
    }
}
