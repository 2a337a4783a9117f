//! What becomes of a connection, by what was seen of it: a decision without a clock.

use std::time::Duration;

use tokio::time::Instant;

use super::activity::{Glance, Phase};

/// How long a client whom policy refuses is waited for: as long as one in its handshake.
const DOUBTED: Duration = Duration::from_secs(10);

/// What was seen of a connection, and since when.
#[derive(Debug)]
pub(super) struct Seen {
    glance: Glance,
    /// Since when its head has been the same unfinished one.
    head_since: Instant,
    /// Since when no request has been in flight.
    quiet_since: Instant,
    /// Since when the client has read nothing of what waits for it.
    unread_since: Instant,
    ending: bool,
}

/// How long a connection is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the rest of a head.
    pub(super) head: Duration,
    /// For the next request.
    pub(super) rest: Duration,
    /// For the client to read.
    pub(super) unread: Duration,
    /// Whether no request is waited for, so that all that is written is the rest of an answer.
    pub(super) draining: bool,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    End,
    Cut,
}

impl Seen {
    pub(super) fn new(glance: Glance, now: Instant) -> Self {
        Self {
            glance,
            head_since: now,
            quiet_since: now,
            unread_since: now,
            ending: false,
        }
    }

    pub(super) fn judge(&mut self, glance: Glance, now: Instant, patience: Patience) -> Fate {
        let before = std::mem::replace(&mut self.glance, glance);
        if before.phase == Phase::Handshake || before.head != glance.head {
            self.head_since = now;
        }
        let written = before.written != glance.written;
        if !(before.blocked && glance.blocked) || written {
            self.unread_since = now;
        }
        let idle = before.in_flight == 0 && glance.in_flight == 0 && before.begun == glance.begun;
        // hyper may hold the rest of an answer whose body has ended.
        let quiet = idle && !glance.blocked && !(patience.draining && written);
        if before.phase == Phase::Handshake || !quiet {
            self.quiet_since = now;
            self.ending = false;
        }
        if glance.phase == Phase::Handshake {
            // The handshake has a timer of its own.
            return Fate::Keep;
        }
        let most = if glance.doubted {
            DOUBTED
        } else {
            Duration::MAX
        };
        let past = |since: Instant, limit: Duration| now.duration_since(since) >= limit.min(most);
        let unread = glance.blocked && past(self.unread_since, patience.unread);
        if unread {
            Fate::Cut
        } else if glance.phase == Phase::Upgraded {
            Fate::Keep
        } else if glance.in_head() && past(self.head_since, patience.head) {
            Fate::Cut
        } else if past(self.quiet_since, patience.rest) {
            // A client that is gone does not answer a farewell: the second time is without one.
            match std::mem::replace(&mut self.ending, true) {
                false => Fate::End,
                true => Fate::Cut,
            }
        } else {
            Fate::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Limits;

    fn glance() -> Glance {
        Glance {
            phase: Phase::Http,
            doubted: false,
            in_flight: 0,
            begun: 0,
            head: 0,
            written: 0,
            blocked: false,
        }
    }

    /// The fates at each of `seconds`, for what was seen at that time.
    fn fates(looks: &[(u64, Glance)]) -> Vec<Fate> {
        let start = Instant::now();
        let mut seen = Seen::new(looks[0].1, start);
        let judge = |&(seconds, glance)| {
            let now = start + Duration::from_secs(seconds);
            let limits = Limits::default();
            let patience = Patience {
                head: limits.header,
                rest: limits.idle,
                unread: limits.unread,
                draining: false,
            };
            seen.judge(glance, now, patience)
        };
        looks.iter().map(judge).collect()
    }

    #[test]
    fn h07_one_head_may_take_30_seconds_and_many_heads_any_time() {
        let slow = Glance {
            head: 1,
            ..glance()
        };
        assert_eq!(
            fates(&[(0, slow), (29, slow), (30, slow)])[1..],
            [Fate::Keep, Fate::Cut]
        );
        let next = Glance {
            head: 3,
            begun: 1,
            ..glance()
        };
        assert_eq!(
            fates(&[(0, slow), (29, next), (58, next), (59, next)])[3],
            Fate::Cut
        );
        assert_eq!(fates(&[(0, slow), (29, next), (58, next)])[2], Fate::Keep);
    }

    #[test]
    fn h07_a_resting_connection_gets_a_farewell_and_then_the_axe() {
        let seen = fates(&[
            (0, glance()),
            (299, glance()),
            (300, glance()),
            (305, glance()),
        ]);
        assert_eq!(seen[1..], [Fate::Keep, Fate::End, Fate::Cut]);
    }

    #[test]
    fn h07_an_answer_may_be_unread_for_a_minute_and_slow_reading_takes_any_time() {
        let blocked = |written| Glance {
            blocked: true,
            written,
            ..glance()
        };
        let seen = fates(&[(0, blocked(1)), (59, blocked(1)), (60, blocked(1))]);
        assert_eq!(seen[1..], [Fate::Keep, Fate::Cut]);
        let seen = fates(&[(0, blocked(1)), (59, blocked(2)), (3600, blocked(3))]);
        assert_eq!(seen[1..], [Fate::Keep, Fate::Keep]);
    }

    #[test]
    fn h07_a_client_whom_policy_refuses_is_waited_for_10_seconds() {
        let doubted = Glance {
            doubted: true,
            ..glance()
        };
        let seen = fates(&[(0, doubted), (5, doubted), (10, doubted), (15, doubted)]);
        assert_eq!(seen[1..], [Fate::Keep, Fate::End, Fate::Cut]);
    }

    #[test]
    fn h07_a_request_in_flight_is_no_rest_however_long_it_takes() {
        let busy = Glance {
            in_flight: 1,
            begun: 1,
            ..glance()
        };
        assert_eq!(fates(&[(0, busy), (3600, busy)])[1], Fate::Keep);
        let after = Glance {
            begun: 1,
            ..glance()
        };
        let seen = fates(&[(0, busy), (3600, after), (3899, after), (3900, after)]);
        assert_eq!(seen[1..], [Fate::Keep, Fate::Keep, Fate::End]);
    }
}
