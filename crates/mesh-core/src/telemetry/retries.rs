//! What is counted of the retries of one port.

use std::fmt;

use mesh_policy::name::ServicePort;
use mesh_policy::retry::Why;
use metrics::{Counter, Label};

use super::{Recorder, Workload};

/// The series of retries of one port that callers name.
pub(crate) struct RetryMetrics {
    /// Tries that followed a failed one.
    pub(crate) sent: Counter,
    /// Requests that were tried again and then succeeded.
    pub(crate) succeeded: Counter,
    stopped: [Counter; Why::ALL.len()],
}

impl RetryMetrics {
    /// Registers the series, or finds them.
    pub(crate) fn register(recorder: &Recorder, workload: &Workload, port: &ServicePort) -> Self {
        let authority = format!("{}.svc.cluster.local:{}", port.service, port.port);
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("direction", "outbound"));
        labels.push(Label::new("authority", authority));
        let counter = |name| recorder.counter(name, labels.clone());
        Self {
            sent: counter("outbound_http_route_retry_requests_total"),
            succeeded: counter("outbound_http_route_retry_successes_total"),
            stopped: Why::ALL.map(|why| {
                let mut labels = labels.clone();
                labels.push(Label::from_static_parts("reason", why.as_str()));
                recorder.counter("mesh_outbound_not_retried_total", labels)
            }),
        }
    }

    /// The counter of failures that were not tried again because of `why`.
    pub(crate) fn stopped(&self, why: Why) -> &Counter {
        let place = Why::ALL.iter().position(|known| *known == why);
        &self.stopped[place.expect("all reasons are listed")]
    }
}

impl fmt::Debug for RetryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryMetrics").finish_non_exhaustive()
    }
}
