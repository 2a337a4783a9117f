//! How long things may take and what is tried again: what a rule says, then its route's annotations, then the Service's.
//!
//! A field of the rule wins over the annotation of its meaning, since it is the
//! narrower word and Gateway API's. Of two annotated groups the route's counts
//! alone, as in Linkerd: half of one and half of the other is what nobody wrote.

use std::time::Duration;

use mesh_policy::manifest::{AnnotatedRetry, AnnotatedTimeouts, Resilience, RouteRule};
use mesh_policy::plan::outbound::{RetryPlan, TimeoutsPlan};

/// Retries where one is asked for and no number is given; Linkerd's.
const ATTEMPTS: u32 = 1;

/// What holds for a rule: itself, its route's annotations and its service's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layers<'a> {
    pub(super) rule: Option<&'a RouteRule>,
    pub(super) route: Option<&'a Resilience>,
    pub(super) service: Option<&'a Resilience>,
}

impl<'a> Layers<'a> {
    /// The same for one rule of the route.
    pub(super) const fn of(self, rule: &'a RouteRule) -> Self {
        Self {
            rule: Some(rule),
            ..self
        }
    }

    /// The narrower of the two objects that says something.
    fn annotated<T: 'a>(&self, pick: fn(&'a Resilience) -> Option<T>) -> Option<T> {
        let said = [self.route, self.service].into_iter().flatten();
        said.into_iter().find_map(pick)
    }

    fn annotated_retry(&self) -> Option<&'a AnnotatedRetry> {
        self.annotated(|said| said.retry.as_ref())
    }

    pub(super) fn timeouts(&self) -> TimeoutsPlan {
        let rule = self.rule.map(|rule| rule.timeouts).unwrap_or_default();
        let annotated: AnnotatedTimeouts = self.annotated(|said| said.timeouts).unwrap_or_default();
        let headers = self.annotated_retry().and_then(|retry| retry.timeout);
        // Both speak of the whole request; Linkerd's goes on to the end of the response.
        let stream = annotated.request.filter(|_| rule.request.is_none());
        TimeoutsPlan {
            request_ms: millis(rule.request),
            backend_request_ms: millis(rule.backend_request),
            response_headers_ms: millis(headers),
            response_ms: millis(annotated.response),
            stream_ms: millis(stream),
            idle_ms: millis(annotated.idle),
        }
    }

    pub(super) fn retry(&self) -> Option<RetryPlan> {
        let rule = self.rule.and_then(|rule| rule.retry.as_ref());
        let annotated = self.annotated_retry();
        if rule.is_none() && annotated.is_none() {
            return None;
        }
        let rule = rule.cloned().unwrap_or_default();
        let annotated = annotated.cloned().unwrap_or_default();
        let codes = [rule.codes, annotated.codes];
        Some(RetryPlan {
            attempts: rule
                .attempts
                .or(annotated.limit.map(u32::from))
                .unwrap_or(ATTEMPTS),
            codes: codes
                .into_iter()
                .find(|codes| !codes.is_empty())
                .unwrap_or_default(),
            grpc: annotated.grpc,
            backoff_ms: rule
                .backoff
                .and_then(|wait| wait.as_millis().try_into().ok()),
            methods: self.annotated(|said| said.methods).unwrap_or_default(),
        })
    }
}

/// A limit of zero is none, and is not told.
fn millis(limit: Option<Duration>) -> Option<u64> {
    let limit = limit.filter(|limit| !limit.is_zero())?;
    Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}
