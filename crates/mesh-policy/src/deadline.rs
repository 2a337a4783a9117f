//! How long a request may still take.
//!
//! A deadline is absolute inside a process and relative on the wire, so that
//! clocks need not agree; a child never outlives its parent.

use std::time::{Duration, Instant};

/// What is left until `deadline`; `None` when it has come.
#[must_use]
pub fn remaining(deadline: Instant, now: Instant) -> Option<Duration> {
    deadline
        .checked_duration_since(now)
        .filter(|left| !left.is_zero())
}

/// The deadline of a request: its own limit, capped by what its caller has left.
#[must_use]
pub fn cap(own: Option<Duration>, inherited: Option<Instant>, now: Instant) -> Option<Instant> {
    // A limit beyond what the clock can count is no limit.
    let own = own.and_then(|limit| now.checked_add(limit));
    match (own, inherited) {
        (Some(own), Some(inherited)) => Some(own.min(inherited)),
        (own, inherited) => own.or(inherited),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may start its own clock")]
    fn the_earlier_of_both_wins_and_the_past_is_nothing() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(cap(None, None, now), None);
        assert_eq!(cap(Some(Duration::from_secs(2)), None, now), Some(at(2)));
        assert_eq!(
            cap(Some(Duration::from_secs(2)), Some(at(1)), now),
            Some(at(1))
        );
        assert_eq!(
            cap(Some(Duration::from_secs(2)), Some(at(3)), now),
            Some(at(2))
        );
        assert_eq!(cap(Some(Duration::MAX), Some(at(3)), now), Some(at(3)));
        assert_eq!(remaining(at(1), now), Some(Duration::from_secs(1)));
        assert_eq!(remaining(now, now), None);
        assert_eq!(remaining(now, at(1)), None);
    }
}
