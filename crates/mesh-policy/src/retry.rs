//! Whether a request is tried again, and why not.
//!
//! Two kinds of retry with two reasons. What no server ever processed (a failed
//! connect, `REFUSED_STREAM`, a stream beyond a GOAWAY) is as good as new: it is
//! sent again whatever its method and whatever people wrote (RFC 9113, section
//! 8.7). What a server may have processed is sent again only where a route asks
//! for it, only if twice is as good as once, and only as far as the budget pays:
//! a retry is load that arrives exactly when there is too much of it.
//!
//! The decision is asked before anything of a response has reached the caller,
//! and never afterwards. A retry that is charged to the budget becomes one only
//! once [`Budget::withdraw`](crate::budget::Budget::withdraw) has granted it;
//! refused it stops for [`Why::Budget`].

use std::time::Duration;

use http::Method;

use crate::backoff::Backoff;
use crate::classify::{Classification, classify};
use crate::draw::Draw;
use crate::plan::outbound::{RetryMethods, RetryPlan, StatusRange};
use crate::pushback::Pushback;

/// How often a request that no server processed is sent again.
///
/// Two endpoints may leave at the same moment; a fourth failure in a row is no accident,
/// and a caller should hear of it. Of these, what a server refused costs nothing once
/// (gRPC's A6 draws the same line), since a server may shed load by `REFUSED_STREAM`. What ended a
/// connection by an error is sent again once, and never for nothing.
pub const MOST_UNPROCESSED: u32 = 3;

/// What a rule tries again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    wanted: Option<Wanted>,
    backoff: Backoff,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    attempts: u32,
    codes: Vec<StatusRange>,
    grpc: Vec<u16>,
    methods: RetryMethods,
}

/// What a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// What the request speaks.
    pub call: CallKind,
    /// How the last try ended.
    pub outcome: Outcome,
    /// Whether the request's body can be sent once more.
    pub replay: Replay,
    /// The retries so far.
    pub tries: Tries,
    /// What the server asked for.
    pub pushback: Option<Pushback>,
    /// What is left of the request's time; `None` if it may take any.
    pub left: Option<Duration>,
}

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// HTTP of any version.
    Http,
    /// gRPC: always a POST, and its statuses tell more than HTTP's.
    Grpc,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a response, or with an error that would become this response.
    Answered {
        /// Its HTTP status.
        status: u16,
        /// Its gRPC status, from headers or from trailers that came at once.
        grpc: Option<u16>,
    },
    /// With no response from the server.
    Failed(Failure),
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about: nothing was sent.
    Connect,
    /// The server reset the stream with `REFUSED_STREAM`.
    Refused,
    /// The server left, and its GOAWAY says that it did not look at the stream.
    GoAway,
    /// The same for an error of the connection, which this very stream may be: whoever sends it
    /// elsewhere for nothing lets one request end the connections of every endpoint.
    GoAwayForError,
    /// The stream or its connection broke: the server may have processed it.
    Reset,
    /// This try ran out of its time: the server may be processing it.
    Timeout,
}

/// Whether a body can be sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It is kept whole, is empty, or nobody has read of it.
    Possible,
    /// It was larger than what is kept.
    TooLarge,
    /// It is a stream that has been read from, and was not kept.
    Streaming,
}

/// How often a request was tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// What a server may have processed.
    pub retries: u32,
    /// What none did.
    pub unprocessed: u32,
}

/// What to do about a try that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is nothing to retry: the caller gets the response.
    Keep,
    /// Try again.
    Retry(Retry),
    /// The caller gets the failure.
    Stop(Why),
}

/// A retry to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How long to wait first.
    pub after: Duration,
    /// Who pays for it.
    pub charge: Charge,
    /// The retries, this one included.
    pub tries: Tries,
}

/// Who pays for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Nobody: it adds nothing to what servers process.
    Free,
    /// The service's budget, if it can.
    Budget,
}

/// Why a failure is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The rule asks for no retries.
    NoPolicy,
    /// The rule asks for retries of other statuses.
    NotListed,
    /// The method is not idempotent, and the rule does not allow it all the same.
    Method,
    /// The body was larger than what is kept.
    BodyTooLarge,
    /// The body is a stream that was not kept.
    BodyStreaming,
    /// It was tried as often as allowed.
    Limit,
    /// The server asked not to, or to wait longer than anybody should.
    Pushback,
    /// There is not enough time left.
    Deadline,
    /// The service's budget is spent.
    Budget,
}

impl Why {
    /// All of them, for metrics that register every label at once.
    pub const ALL: [Self; 9] = [
        Self::NoPolicy,
        Self::NotListed,
        Self::Method,
        Self::BodyTooLarge,
        Self::BodyStreaming,
        Self::Limit,
        Self::Pushback,
        Self::Deadline,
        Self::Budget,
    ];

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPolicy => "no-policy",
            Self::NotListed => "not-listed",
            Self::Method => "method",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyStreaming => "body-streaming",
            Self::Limit => "limit",
            Self::Pushback => "pushback",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

impl From<Option<&RetryPlan>> for RetryPolicy {
    fn from(plan: Option<&RetryPlan>) -> Self {
        let base = plan.and_then(|plan| plan.backoff_ms);
        Self {
            wanted: plan.map(|plan| Wanted {
                attempts: plan.attempts,
                codes: plan.codes.clone(),
                grpc: plan.grpc.clone(),
                methods: plan.methods,
            }),
            backoff: base.map_or_else(Backoff::default, |millis| {
                Backoff::from_base(Duration::from_millis(millis))
            }),
        }
    }
}

impl RetryPolicy {
    /// Whether a try of these `facts` that ran out of its time would be the last: that one is
    /// not held to the limit on response headers. Its outcome does not matter.
    #[must_use]
    pub fn is_last(&self, facts: &Facts<'_>) -> bool {
        let outcome = Outcome::Failed(Failure::Timeout);
        !self.retries(&Facts { outcome, ..*facts })
    }

    /// Whether a gRPC status that has not come yet may make for another try.
    #[must_use]
    pub fn awaits_status(&self, facts: &Facts<'_>) -> bool {
        let codes = self.wanted.iter().flat_map(|wanted| &wanted.grpc);
        codes.into_iter().any(|code| {
            let (status, grpc) = (200, Some(*code));
            let outcome = Outcome::Answered { status, grpc };
            self.retries(&Facts { outcome, ..*facts })
        })
    }

    fn retries(&self, facts: &Facts<'_>) -> bool {
        matches!(self.decide(facts, Draw(0)), Decision::Retry(_))
    }

    /// What to do about a try that ended; `draw` spreads the waits.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>, draw: Draw) -> Decision {
        let failure = match facts.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Answered { .. } => None,
        };
        match failure {
            Some(failure) if !matches!(failure, Failure::Reset | Failure::Timeout) => {
                let (after, charge) = self.again(failure, facts.tries, draw);
                let tries = Tries {
                    unprocessed: facts.tries.unprocessed + 1,
                    ..facts.tries
                };
                let retry = Retry {
                    after,
                    charge,
                    tries,
                };
                let once = failure == Failure::GoAwayForError;
                if tries.unprocessed > if once { 1 } else { MOST_UNPROCESSED } {
                    return Decision::Stop(Why::Limit);
                }
                facts.possible(retry)
            }
            _ => match &self.wanted {
                None if facts.failed() => Decision::Stop(Why::NoPolicy),
                None => Decision::Keep,
                Some(wanted) => self.wanted(wanted, facts, draw),
            },
        }
    }

    /// When a request that no server processed is sent again, and who pays.
    fn again(&self, failure: Failure, tries: Tries, draw: Draw) -> (Duration, Charge) {
        // The first goes elsewhere, so that there is nothing to wait for.
        let after = match tries.unprocessed.checked_sub(1) {
            None => Duration::ZERO,
            Some(earlier) => self.backoff.wait(earlier, draw),
        };
        let charge = match failure {
            Failure::GoAwayForError => Charge::Budget,
            Failure::Refused if tries.unprocessed > 0 => Charge::Budget,
            _ => Charge::Free,
        };
        (after, charge)
    }

    fn wanted(&self, wanted: &Wanted, facts: &Facts<'_>, draw: Draw) -> Decision {
        if !wanted.lists(facts) {
            return if facts.failed() {
                Decision::Stop(Why::NotListed)
            } else {
                Decision::Keep
            };
        }
        if !wanted.allows(facts) {
            return Decision::Stop(Why::Method);
        }
        let Some(asked) = Pushback::wait(facts.pushback) else {
            return Decision::Stop(Why::Pushback);
        };
        if facts.tries.retries >= wanted.attempts {
            return Decision::Stop(Why::Limit);
        }
        facts.possible(Retry {
            // Added, so that those who were all told the same do not come back at once.
            after: asked + self.backoff.wait(facts.tries.retries, draw),
            charge: Charge::Budget,
            tries: Tries {
                retries: facts.tries.retries + 1,
                ..facts.tries
            },
        })
    }
}

impl Wanted {
    /// A broken or silent try counts as listed (GEP-1731), since whoever lists a status
    /// that a server sends when it is unwell means those too.
    fn lists(&self, facts: &Facts<'_>) -> bool {
        match facts.outcome {
            Outcome::Answered { status, .. } => {
                let within = |range: &StatusRange| (range.from..=range.to).contains(&status);
                self.codes.iter().any(within) || self.lists_grpc(facts)
            }
            Outcome::Failed(_) => true,
        }
    }

    fn lists_grpc(&self, facts: &Facts<'_>) -> bool {
        let code = facts.grpc_code();
        code.is_some_and(|code| self.grpc.contains(&code))
    }

    /// Every gRPC call is a POST, so that listing a gRPC status allows its calls.
    fn allows(&self, facts: &Facts<'_>) -> bool {
        self.methods == RetryMethods::All || facts.method.is_idempotent() || self.lists_grpc(facts)
    }
}

impl Facts<'_> {
    fn failed(&self) -> bool {
        match self.outcome {
            Outcome::Answered { status, grpc } => classify(status, grpc) == Classification::Failure,
            Outcome::Failed(_) => true,
        }
    }

    /// The status that the caller of a gRPC method would see; `None` for HTTP's.
    fn grpc_code(&self) -> Option<u16> {
        const DEADLINE_EXCEEDED: u16 = 4;
        const UNAVAILABLE: u16 = 14;
        if self.call == CallKind::Http {
            return None;
        }
        match self.outcome {
            Outcome::Answered {
                grpc: Some(code), ..
            } => Some(code),
            // gRPC's mapping of HTTP's statuses, for what did not come from a gRPC server.
            Outcome::Answered {
                status: 429 | 502..=504,
                ..
            } => Some(UNAVAILABLE),
            Outcome::Answered { .. } => None,
            Outcome::Failed(Failure::Timeout) => Some(DEADLINE_EXCEEDED),
            Outcome::Failed(_) => Some(UNAVAILABLE),
        }
    }

    /// The retry, unless the body or the time is lost.
    fn possible(&self, retry: Retry) -> Decision {
        match self.replay {
            Replay::TooLarge => return Decision::Stop(Why::BodyTooLarge),
            Replay::Streaming => return Decision::Stop(Why::BodyStreaming),
            Replay::Possible => {}
        }
        if self.left.is_some_and(|left| left <= retry.after) {
            return Decision::Stop(Why::Deadline);
        }
        Decision::Retry(retry)
    }
}

#[cfg(test)]
mod tests;
