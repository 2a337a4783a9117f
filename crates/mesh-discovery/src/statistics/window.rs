//! Which time a slot covers, and how much of that lies in a window.
//!
//! Time is cut into slots of ten seconds, numbered from the start. Those of the last minute are
//! kept apart; older ones are added up by the minute.

use std::ops::Range;
use std::time::Duration;

/// The time that one slot holds.
pub(super) const SLOT: Duration = Duration::from_secs(10);
/// Slots that are kept apart: a minute, and the one that is being filled.
pub(super) const APART: u64 = 7;
/// Slots of a minute.
pub(super) const MINUTE: u64 = 6;
/// The longest window that can be asked for.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);
/// Slots of the longest window, the one that is being filled included.
const SLOTS: u64 = 61;

/// Where now is: in which slot, and how much of that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) slot: u64,
    elapsed: Duration,
}

/// The part of a slot that lies in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    part: u128,
    whole: u128,
}

impl Now {
    /// The moment `elapsed` after the start.
    pub(super) const fn new(elapsed: Duration) -> Self {
        Self {
            slot: elapsed.as_secs() / SLOT.as_secs(),
            elapsed,
        }
    }

    /// Whether slot `number` is so old that it is added to its minute.
    pub(super) const fn is_apart(self, number: u64) -> bool {
        number + APART > self.slot
    }

    /// Whether no window reaches a minute any more.
    pub(super) const fn is_forgotten(self, minute: u64) -> bool {
        (minute + 1) * MINUTE + SLOTS <= self.slot + 1
    }

    /// The slots that are added up in `minute`: the youngest may be without its last ones.
    pub(super) fn minute(self, minute: u64) -> Range<u64> {
        let first = minute * MINUTE;
        let apart = (self.slot + 1).saturating_sub(APART);
        first..(first + MINUTE).min(apart.max(first + 1))
    }

    /// How much of `slots` lies in the last `window`; `None` if nothing does.
    ///
    /// The oldest slot counts in proportion, so that a window is as long as was asked.
    pub(super) fn share(self, slots: &Range<u64>, window: Duration) -> Option<Share> {
        let at = |slot: u64| u128::from(slot) * SLOT.as_millis();
        let now = self.elapsed.as_millis();
        let (begin, end) = (at(slots.start), at(slots.end).min(now));
        let since = now.saturating_sub(window.as_millis());
        if end <= since && slots.start != self.slot {
            return None;
        }
        let whole = end.saturating_sub(begin).max(1);
        let part = end.saturating_sub(since).clamp(1, whole);
        Some(Share { part, whole })
    }
}

impl Share {
    /// This part of `count`, rounded.
    pub(super) fn of(self, count: u64) -> u64 {
        let part = (u128::from(count) * self.part + self.whole / 2) / self.whole;
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Now {
        Now::new(Duration::from_secs(seconds))
    }

    fn share(now: Now, slots: Range<u64>, window: u64) -> Option<u64> {
        let share = now.share(&slots, Duration::from_secs(window));
        share.map(|share| share.of(1_000))
    }

    #[test]
    fn a_window_is_as_long_as_was_asked() {
        let at = now(127);
        assert_eq!(share(at, 12..13, 60), Some(1_000), "the slot of now");
        assert_eq!(share(at, 7..8, 60), Some(1_000));
        assert_eq!(share(at, 6..7, 60), Some(300), "67 to 70 of 60 to 70");
        assert_eq!(share(at, 5..6, 60), None);
        assert_eq!(share(at, 12..13, 3), Some(429), "124 to 127 of 120 to 127");
        assert_eq!(share(now(120), 12..13, 60), Some(1_000), "it begins now");
    }

    #[test]
    fn a_minute_counts_in_proportion_too() {
        let at = now(305);
        assert!(at.is_apart(24) && !at.is_apart(23));
        assert_eq!(at.minute(2), 12..18);
        assert_eq!(at.minute(3), 18..24, "all of its slots are added up");
        assert_eq!(now(295).minute(3), 18..23, "one of them is still apart");
        assert_eq!(
            share(at, at.minute(2), 180),
            Some(917),
            "125 to 180 of 120 to 180"
        );
        assert_eq!(share(at, at.minute(1), 180), None);
    }

    #[test]
    fn a_minute_is_forgotten_once_no_window_reaches_it() {
        let longest = LONGEST.as_secs();
        for seconds in 0..2_000 {
            let at = now(seconds);
            for minute in 0..seconds / 60 {
                let reached = share(at, at.minute(minute), longest).is_some();
                assert!(
                    !(at.is_forgotten(minute) && reached),
                    "{seconds} s, {minute}"
                );
            }
        }
        assert!(now(1_300).is_forgotten(10) && !now(1_200).is_forgotten(10));
    }
}
