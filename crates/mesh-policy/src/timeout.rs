//! How long the requests of a rule may take.
//!
//! ```text
//!  call ─────────────────────────────────────────────────────────────▶ end of the body
//!  ├──────────────── request ───────────────┤                          │
//!  ├──────────────── stream ───────────────────────────────────────────┤
//!  ├── try 1 ──┤  wait  ├────── try 2 ───────────────────────────────────┤
//!  ├─ headers ─┤        ├─ backend_request ──────────────────────────────┤
//! ```

use std::time::Duration;

use crate::plan::outbound::TimeoutsPlan;

/// Time limits of a rule; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the call to the end of the response headers, retries included.
    pub request: Option<Duration>,
    /// One try, from its start to the end of its response.
    pub backend_request: Option<Duration>,
    /// One try, from its start to its response headers, but for the last try that is allowed.
    pub response_headers: Option<Duration>,
    /// One try, from its request fully sent to its response fully received.
    pub response: Option<Duration>,
    /// From the call to the end of the response's body, retries included.
    pub stream: Option<Duration>,
    /// How long no frame may come or go.
    pub idle: Option<Duration>,
}

impl From<TimeoutsPlan> for Timeouts {
    fn from(plan: TimeoutsPlan) -> Self {
        // GEP-1742: a timeout of zero is no timeout.
        let limit = |millis: Option<u64>| {
            let millis = millis.filter(|millis| *millis > 0);
            millis.map(Duration::from_millis)
        };
        Self {
            request: limit(plan.request_ms),
            backend_request: limit(plan.backend_request_ms),
            response_headers: limit(plan.response_headers_ms),
            response: limit(plan.response_ms),
            stream: limit(plan.stream_ms),
            idle: limit(plan.idle_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_zero_is_none_and_each_has_its_place() {
        assert_eq!(Timeouts::from(TimeoutsPlan::default()), Timeouts::default());
        let all = |millis: [u64; 6]| {
            let [request, backend, headers, response, stream, idle] = millis.map(Some);
            Timeouts::from(TimeoutsPlan {
                request_ms: request,
                backend_request_ms: backend,
                response_headers_ms: headers,
                response_ms: response,
                stream_ms: stream,
                idle_ms: idle,
            })
        };
        assert_eq!(all([0; 6]), Timeouts::default());
        let limit = |millis| Some(Duration::from_millis(millis));
        assert_eq!(
            all([1, 2, 3, 4, 5, 6]),
            Timeouts {
                request: limit(1),
                backend_request: limit(2),
                response_headers: limit(3),
                response: limit(4),
                stream: limit(5),
                idle: limit(6),
            }
        );
    }
}
