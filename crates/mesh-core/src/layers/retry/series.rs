//! What is counted of retries, one set for each port that callers name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_policy::name::ServicePort;
use mesh_policy::retry::Why;
use metrics::{Counter, Label};

use crate::outbound::Call;
use crate::telemetry::{Recorder, Route, RouteMetrics, Workload};

/// The series of retries. A request that succeeds at once touches none of them.
#[derive(Debug)]
pub(crate) struct Series {
    recorder: Recorder,
    workload: Arc<Workload>,
    by_port: Mutex<HashMap<ServicePort, Arc<Counters>>>,
}

/// Series of a port that stay while this lives.
#[derive(Debug)]
pub(crate) struct Announced(#[expect(dead_code, reason = "it is held, not read")] Counters);

struct Counters {
    sent: Counter,
    succeeded: Counter,
    stopped: [Counter; Why::ALL.len()],
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Series {
    /// Series that `recorder` holds.
    pub(crate) fn new(recorder: Recorder, workload: Arc<Workload>) -> Self {
        Self {
            recorder,
            workload,
            by_port: Mutex::default(),
        }
    }

    /// Shows the series of `port`, before anything has happened, for as long as what this
    /// returns is held.
    pub(crate) fn announce(
        recorder: &Recorder,
        workload: &Workload,
        port: &ServicePort,
    ) -> Announced {
        Announced(Counters::register(recorder, workload, port))
    }

    /// Registers the series of a rule.
    pub(crate) fn route(&self, route: Route<'_>) -> RouteMetrics {
        route.register(&self.recorder, &self.workload)
    }

    /// A retry begins.
    pub(super) fn sent(&self, call: &Call) {
        self.of(call).sent.increment(1);
    }

    /// A request that was tried again has its response.
    pub(super) fn succeeded(&self, call: &Call) {
        self.of(call).succeeded.increment(1);
    }

    /// A failure is not tried again.
    pub(super) fn stopped(&self, call: &Call, why: Why) {
        let place = Why::ALL.iter().position(|known| *known == why);
        if let Some(counter) = place.and_then(|place| self.of(call).stopped.get(place).cloned()) {
            counter.increment(1);
        }
        if let (Why::Budget, Some(route)) = (why, call.route_metrics()) {
            route.no_budget.increment(1);
        }
    }

    /// Bounded by the ports that plans have.
    fn of(&self, call: &Call) -> Arc<Counters> {
        let port = &call.port().address;
        let mut by_port = self.by_port.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_port.get(port) {
            return Arc::clone(known);
        }
        let counters = Arc::new(Counters::register(&self.recorder, &self.workload, port));
        by_port.insert(port.clone(), Arc::clone(&counters));
        counters
    }
}

impl Counters {
    /// Registers the series, or finds them.
    fn register(recorder: &Recorder, workload: &Workload, port: &ServicePort) -> Self {
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
}
