//! When a process renews its certificate.
//!
//! Early, so that discovery may be away for half of a certificate's life and cost
//! nothing: of 24 hours at least 12 are left. Spread, so that processes that
//! started together do not all ask in one second. And counted from the receipt, by
//! the clock that says more has passed: neither a wrong wall clock nor a suspended
//! machine makes a process late.

use std::time::Duration;

use crate::draw::Draw;

/// The earliest renewal, in ten-thousandths of the life.
const EARLIEST: u64 = 4_000;
/// The latest.
const LATEST: u64 = 5_000;
/// The wait after a first failure is drawn up to this, and so is the shortest one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// No wait after a failure is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// No wait before a renewal is shorter: a life of nothing, or one that is nearly over, must not
/// make a process ask without a pause.
const SHORTEST: Duration = Duration::from_millis(500);
/// So many tries fit into what is left of the life, while that is 8 s or more.
const TRIES_LEFT: u32 = 8;

/// How long after its receipt a certificate with `life` left is renewed: 40 to 50 % of it,
/// and never less than 500 ms.
#[must_use]
pub fn wait(life: Duration, draw: Draw) -> Duration {
    let share = EARLIEST + draw.below(LATEST - EARLIEST + 1);
    share_of(life, share).max(SHORTEST)
}

/// How long to wait after `failures` tries in a row, where `left` of the life remains.
///
/// The bound doubles from a second to a minute, and is no more than an eighth of what is left
/// while that is 8 s or more; with less, it is a second: an end that is near is no reason to
/// ask without a pause. The wait is drawn between half of the bound and all of it. After the end
/// of the life what is left bounds it no more.
#[must_use]
pub fn retry(left: Duration, failures: u32, draw: Draw) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let bound = doubled.min(LONGEST_RETRY);
    let bound = if left.is_zero() {
        bound
    } else {
        bound.min((left / TRIES_LEFT).max(FIRST_RETRY))
    };
    share_of(bound, 5_000 + draw.below(5_001))
}

/// `share` ten-thousandths of `whole`.
fn share_of(whole: Duration, share: u64) -> Duration {
    let nanoseconds = whole.as_nanos() * u128::from(share) / 10_000;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn t21_of_a_day_between_twelve_and_fourteen_hours_are_left() {
        assert_eq!(wait(DAY, Draw(0)), DAY * 2 / 5);
        assert_eq!(wait(DAY, Draw(u64::MAX)), DAY / 2);
    }

    /// A thousand processes that start at once, with leafs of 100 s: no second has more than
    /// three times the mean of the seconds in which they renew.
    #[test]
    fn t21_a_thousand_processes_do_not_renew_in_one_burst() {
        let life = Duration::from_secs(100);
        let mut buckets = [0_u32; 100];
        for index in 0..1_000_u64 {
            let draw = Draw(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let second = usize::try_from(wait(life, draw).as_secs()).expect("small");
            buckets[second.min(99)] += 1;
        }
        assert_eq!(buckets[..40].iter().sum::<u32>(), 0, "none is early");
        assert_eq!(buckets[51..].iter().sum::<u32>(), 0, "none is late");
        let most = buckets.iter().max().expect("there are buckets");
        assert!(*most <= 3 * 1_000 / 10, "{most} in one second");
    }

    #[test]
    fn nobody_renews_without_a_pause() {
        assert!(wait(Duration::ZERO, Draw(7)) >= Duration::from_millis(500));
        for left in [0, 8, 900_000, 1_000_000] {
            let wait = retry(Duration::from_micros(left), 9, Draw(0));
            assert!(wait >= Duration::from_millis(500), "{left}: {wait:?}");
        }
    }

    #[test]
    fn failures_are_tried_again_sooner_when_little_is_left() {
        let second = Duration::from_secs(1);
        for (left, failures, longest) in [
            (DAY / 2, 1, second),
            (DAY / 2, 3, second * 4),
            (DAY / 2, 90, second * 60),
            (second * 8, 90, second),
            (Duration::ZERO, 90, second * 60),
        ] {
            assert_eq!(retry(left, failures, Draw(u64::MAX)), longest);
            assert_eq!(retry(left, failures, Draw(0)), longest / 2);
        }
    }

    proptest! {
        #[test]
        fn t21_a_renewal_lies_between_40_and_50_percent(life in 0_u64..10_000_000, draw: u64) {
            let life = Duration::from_millis(life);
            let wait = wait(life, Draw(draw));
            prop_assert!(wait >= life * 2 / 5 && wait <= (life / 2).max(SHORTEST));
        }

        #[test]
        fn t21_a_life_that_is_nearly_over_is_renewed_after_the_shortest_wait(
            life in 0_u64..1_000,
            draw: u64,
        ) {
            let life = Duration::from_millis(life);
            let wait = wait(life, Draw(draw));
            prop_assert!(wait == SHORTEST);
        }

        #[test]
        fn many_tries_fit_into_what_is_left(left in 8_001_u64..1_000_000, draws: [u64; 8]) {
            let mut left = Duration::from_millis(left);
            for (failures, draw) in (1..).zip(draws) {
                let wait = retry(left, failures, Draw(draw));
                prop_assert!(wait < left);
                left -= wait;
            }
        }
    }
}
