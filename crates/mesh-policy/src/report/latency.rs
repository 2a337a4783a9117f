//! Latencies that can be added up: a histogram with fixed, log-linear buckets.
//!
//! Quantiles of processes cannot be averaged, but their buckets can be added.
//! Buckets are one microsecond wide below 16 µs, and sixteen to each doubling
//! above, up to 134 s. A quantile is the middle of its bucket, so it is off by at
//! most 1/32 (3.2 %) of the latency at that rank.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets in each doubling, as a power of two.
const DOUBLING_BITS: u32 = 4;
const PER_DOUBLING: u64 = 1 << DOUBLING_BITS;
/// Latencies of 2^27 µs (134 s) and more fall into the last bucket.
const MAX_BITS: u32 = 27;
/// How many buckets there are.
pub const BUCKETS: usize = 16 * (MAX_BITS - DOUBLING_BITS + 1) as usize;

/// The number of the bucket that holds `latency`.
#[must_use]
pub fn bucket(latency: Duration) -> usize {
    let longest = (1 << MAX_BITS) - 1;
    let micros = u64::try_from(latency.as_micros())
        .unwrap_or(longest)
        .min(longest);
    if micros < PER_DOUBLING {
        return usize::try_from(micros).unwrap_or(BUCKETS - 1);
    }
    let doubling = micros.ilog2() - DOUBLING_BITS;
    let number = u64::from(doubling) * PER_DOUBLING + (micros >> doubling);
    usize::try_from(number).unwrap_or(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(bucket: u16) -> Duration {
    let bucket = u64::from(bucket);
    if bucket < 2 * PER_DOUBLING {
        return Duration::from_micros(bucket);
    }
    let doubling = bucket / PER_DOUBLING - 1;
    let low = (bucket % PER_DOUBLING + PER_DOUBLING) << doubling;
    Duration::from_micros(low + (1 << doubling) / 2)
}

/// How many latencies fell into each bucket; empty buckets are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<u16, u64>", into = "BTreeMap<u16, u64>")]
pub struct Latencies(Vec<(u16, u64)>);

impl Latencies {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.add(bucket(latency), 1);
    }

    /// Counts `count` latencies of a bucket that [`bucket`] gave; others are passed over.
    pub fn add(&mut self, bucket: usize, count: u64) {
        let Ok(bucket) = u16::try_from(bucket) else {
            return;
        };
        if usize::from(bucket) >= BUCKETS || count == 0 {
            return;
        }
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add(usize::from(bucket), count);
        }
    }

    /// The buckets that hold any latency, in order, each with how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().copied()
    }

    /// How many latencies there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets()
            .fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// The latency that a share of `q` (0 to 1) does not exceed, to within 1/32 of it;
    /// `None` without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank is between 1 and the count; beyond 2^53 latencies one does not matter"
        )]
        let rank = ((self.count() as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0_u64;
        let mut at = self.buckets().find_map(|(bucket, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then_some(bucket)
        });
        // Rounding of a rank beyond 2^53.
        at = at.or_else(|| self.0.last().map(|(bucket, _)| *bucket));
        at.map(middle)
    }
}

/// A report counts in a bucket that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("latency buckets are numbered from 0 to {max}, not {bucket}", max = BUCKETS - 1)]
pub struct NoSuchBucket {
    bucket: u16,
}

impl TryFrom<BTreeMap<u16, u64>> for Latencies {
    type Error = NoSuchBucket;

    fn try_from(counts: BTreeMap<u16, u64>) -> Result<Self, NoSuchBucket> {
        match counts.keys().next_back() {
            Some(&bucket) if usize::from(bucket) >= BUCKETS => Err(NoSuchBucket { bucket }),
            _ => Ok(Self(counts.into_iter().filter(|(_, n)| *n > 0).collect())),
        }
    }
}

impl From<Latencies> for BTreeMap<u16, u64> {
    fn from(latencies: Latencies) -> Self {
        latencies.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        for &micros in micros {
            latencies.record(Duration::from_micros(micros));
        }
        latencies
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = 0;
        for micros in 0..(1_u64 << 18) {
            let this = bucket(Duration::from_micros(micros));
            assert!(this == last || this == last + 1, "{micros} µs");
            last = this;
        }
        assert_eq!(bucket(Duration::from_micros((1 << 27) - 1)), BUCKETS - 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bucket_that_there_is_not_is_refused() {
        let bad = format!("{{\"{BUCKETS}\":1}}");
        assert!(serde_json::from_str::<Latencies>(&bad).is_err());
        assert!(serde_json::from_str::<Latencies>("{\"0\":1}").is_ok());
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Latencies::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_off_by_a_thirty_second_at_most(
            mut micros in prop::collection::vec(0_u64..100_000_000, 1..200),
            // Parts of 64 are exact in binary, so that both sides mean the same rank.
            q in 0_u8..=64,
        ) {
            let got = of(&micros).quantile(f64::from(q) / 64.0).unwrap().as_micros();
            micros.sort_unstable();
            let rank = (micros.len() * usize::from(q)).div_ceil(64);
            let exact = u128::from(micros[rank.max(1) - 1]);
            prop_assert!(got.abs_diff(exact) * 32 <= exact, "{got} for {exact}");
        }

        #[test]
        fn merging_is_counting_all(
            one in prop::collection::vec(0_u64..1_000_000, 0..50),
            two in prop::collection::vec(0_u64..1_000_000, 0..50),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert_eq!(merged.count(), (one.len() + two.len()) as u64);
            prop_assert_eq!(merged, of(&[one, two].concat()));
        }
    }
}
