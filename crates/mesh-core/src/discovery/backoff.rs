//! How long to wait before the next try: exponential, with full jitter.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first wait is drawn below this, so that a blip costs little.
const FIRST: Duration = Duration::from_millis(500);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits between tries that nobody gives up. Each is drawn from zero to a bound
/// that doubles (full jitter): a whole fleet that lost discovery comes back spread out.
#[derive(Debug)]
pub(super) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(super) fn new() -> Self {
        let bounds = ExponentialBuilder::new()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .with_factor(2.0)
            .without_max_times();
        Self(bounds.build())
    }

    /// Waits for a share of the next bound.
    pub(super) async fn wait(&mut self) {
        let bound = self.0.next().unwrap_or(LONGEST);
        tokio::time::sleep(bound.mul_f64(fastrand::f64())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_from_half_a_second_to_thirty() {
        let bounds: Vec<_> = Backoff::new().0.take(9).map(|b| b.as_millis()).collect();
        let expected = [
            500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000,
        ];
        assert_eq!(bounds, expected);
    }
}
