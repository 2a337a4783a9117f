//! What is counted of retries and routes.

use std::sync::Arc;

use mesh_policy::retry::Why;

use crate::outbound::Call;
use crate::telemetry::{Recorder, RetryMetrics, Route, RouteMetrics, Workload};

/// Registers the series of retries and routes, which stay for as long as their plan.
///
/// A request that succeeds at once touches none of retries.
#[derive(Debug)]
pub(crate) struct Series {
    recorder: Recorder,
    workload: Arc<Workload>,
}

impl Series {
    /// Series that `recorder` holds.
    pub(crate) fn new(recorder: Recorder, workload: Arc<Workload>) -> Self {
        Self { recorder, workload }
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
        self.of(call).stopped(why).increment(1);
        if let (Why::Budget, Some(route)) = (why, call.route_metrics()) {
            route.no_budget.increment(1);
        }
    }

    fn of<'a>(&self, call: &'a Call) -> &'a RetryMetrics {
        call.port().retries(&self.recorder, &self.workload)
    }
}
