//! How long a certificate still counts, by two clocks.
//!
//! The wall clock judges certificates, and can be set. The monotonic clock is set by nobody, and
//! on most systems does not count the time in which a machine was suspended. Each alone makes
//! somebody late: what has passed is what either of them says.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The longest sleep: so late a change of the wall clock is noticed.
const SLICE: Duration = Duration::from_secs(5);

/// A span of time that began when this was made.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    length: Duration,
    began: Instant,
    began_at: SystemTime,
}

impl Lifetime {
    /// A span of `length` from now on.
    #[must_use]
    pub fn of(length: Duration) -> Self {
        Self {
            length,
            began: Instant::now(),
            began_at: SystemTime::now(),
        }
    }

    /// From now on until `end` by the wall clock; over at once where that has passed.
    #[must_use]
    pub fn until(end: SystemTime) -> Self {
        let length = end.duration_since(SystemTime::now());
        Self::of(length.unwrap_or_default())
    }

    /// The whole span.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// How much has passed, by the clock that says more.
    #[must_use]
    pub fn passed(&self) -> Duration {
        let by_wall = SystemTime::now().duration_since(self.began_at);
        // A wall clock that went back says nothing.
        self.began.elapsed().max(by_wall.unwrap_or_default())
    }

    /// How much is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.length.saturating_sub(self.passed())
    }

    /// How long ago the span ended; `None` while it lasts.
    #[must_use]
    pub fn ended(&self) -> Option<Duration> {
        let over = self.passed().checked_sub(self.length);
        over.filter(|_| self.left().is_zero())
    }

    /// Waits until so much has passed: at most 5 s longer after a wall clock has leapt.
    pub async fn reach(&self, passed: Duration) {
        loop {
            let missing = passed.saturating_sub(self.passed());
            if missing.is_zero() {
                return;
            }
            tokio::time::sleep(missing.min(SLICE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lifetime that began when the wall clock said something else.
    fn leapt(length: u64, seconds_ago: i64) -> Lifetime {
        let by = Duration::from_secs(seconds_ago.unsigned_abs());
        let lifetime = Lifetime::of(Duration::from_secs(length));
        let began_at = match seconds_ago.is_negative() {
            true => lifetime.began_at + by,
            false => lifetime.began_at - by,
        };
        Lifetime {
            began_at,
            ..lifetime
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p14_what_has_passed_is_what_either_clock_says() {
        let seconds = |lifetime: &Lifetime| lifetime.left().as_secs_f64().round();
        let even = Lifetime::of(Duration::from_secs(100));
        assert!((seconds(&even) - 100.0).abs() < f64::EPSILON);
        // The machine slept for a minute, or the clock was put right by one.
        assert!((seconds(&leapt(100, 60)) - 40.0).abs() < f64::EPSILON);
        assert!(leapt(100, 160).ended().is_some());
        // A clock that was set back makes nothing longer.
        let back = leapt(100, -86_400);
        tokio::time::advance(Duration::from_secs(99)).await;
        assert!(back.ended().is_none());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(back.ended().map(|ago| ago.as_secs()), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn p14_a_wait_ends_by_either_clock() {
        let begun = Instant::now();
        Lifetime::of(Duration::from_secs(100))
            .reach(Duration::from_secs(50))
            .await;
        assert_eq!(begun.elapsed().as_secs(), 50);
        let begun = Instant::now();
        leapt(100, 60).reach(Duration::from_secs(50)).await;
        assert_eq!(begun.elapsed().as_secs(), 0);
    }
}
