//! What a rule says of its time and its retries (GEP-1742, GEP-1731).

use std::time::Duration;

use super::super::fields::{At, each};
use crate::duration;
use crate::plan::outbound::StatusRange;

/// More than anybody waits for; the budget ends a storm long before.
const MOST_ATTEMPTS: u32 = 100;
const MOST_CODES: usize = 200;

/// A rule's `timeouts`; zero switches the limit off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTimeouts {
    /// From the call to the end of the response headers, retries included.
    pub request: Option<Duration>,
    /// One try, from its start to the end of its response.
    pub backend_request: Option<Duration>,
}

/// A rule's `retry`; what it leaves out, annotations may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleRetry {
    /// HTTP statuses that are worth another try.
    pub codes: Vec<StatusRange>,
    /// How many tries may follow the first.
    pub attempts: Option<u32>,
    /// The least wait before a retry.
    pub backoff: Option<Duration>,
}

pub(super) fn timeouts(at: &At<'_>) -> Option<RuleTimeouts> {
    let mut fields = at.fields();
    let request = fields.take("request").map(|at| time(&at));
    let backend = fields.take("backendRequest");
    fields.finish();
    let backend_request = backend.as_ref().map(time);
    let timeouts = RuleTimeouts {
        request: match request {
            Some(time) => Some(time?),
            None => None,
        },
        backend_request: match backend_request {
            Some(time) => Some(time?),
            None => None,
        },
    };
    let longer = timeouts.request.zip(timeouts.backend_request);
    let longer = longer.filter(|(request, backend)| !request.is_zero() && backend > request);
    if let (Some((request, _)), Some(at)) = (longer, backend) {
        return at.refuse(
            format!(
                "allows one try longer than the whole request, which has {}",
                duration::format(request)
            ),
            "write at most as much, or a longer request",
        );
    }
    Some(timeouts)
}

fn time(at: &At<'_>) -> Option<Duration> {
    match duration::parse(at.text()?) {
        Ok(limit) => Some(limit),
        Err(error) => at.refuse(error, ""),
    }
}

fn attempts(at: &At<'_>) -> Option<u32> {
    let attempts = u32::try_from(at.integer(0..=i128::from(i32::MAX))?).ok()?;
    if attempts > MOST_ATTEMPTS {
        at.warn(
            format!("is more than {MOST_ATTEMPTS}, which is what counts"),
            format!("write at most {MOST_ATTEMPTS}"),
        );
    }
    Some(attempts.min(MOST_ATTEMPTS))
}

pub(super) fn retry(at: &At<'_>) -> Option<RuleRetry> {
    let mut fields = at.fields();
    let codes = fields.items("codes", MOST_CODES);
    let attempts = fields.take("attempts").map(|at| attempts(&at));
    let backoff = fields.take("backoff").map(|at| time(&at));
    fields.finish();
    let codes = each(&codes, |at| {
        let code = u16::try_from(at.integer(400..=599)?).ok()?;
        Some(StatusRange {
            from: code,
            to: code,
        })
    });
    Some(RuleRetry {
        codes: codes?,
        attempts: match attempts {
            Some(attempts) => Some(attempts?),
            None => None,
        },
        backoff: match backoff {
            Some(backoff) => Some(backoff?),
            None => None,
        },
    })
}
