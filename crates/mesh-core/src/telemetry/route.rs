//! The series of one rule of a service's routes.

use std::sync::Arc;

use mesh_policy::name::{ObjectRef, ServicePort};
use metrics::{Counter, Label};

use super::requests::{ROUTES, TRIES};
use super::{Recorder, RequestMetrics, Workload};

/// What was asked of a rule, and what was tried for it.
#[derive(Clone, Debug)]
pub(crate) struct RouteMetrics {
    /// `route_request_total` and its like: requests of the application.
    pub(crate) asked: Arc<RequestMetrics>,
    /// `route_actual_request_total` and its like: tries.
    pub(crate) tried: Arc<RequestMetrics>,
    /// Failures that were not tried again because the budget was spent.
    pub(crate) no_budget: Counter,
}

/// One rule as the metrics name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    /// What the caller named; label `dst`.
    pub(crate) port: &'a ServicePort,
    /// The object that holds the rule; labels `rt_kind` and `rt_name`.
    pub(crate) source: &'a ObjectRef,
    /// Its place in that object.
    pub(crate) index: usize,
    /// Its name, if it has one.
    pub(crate) name: Option<&'a str>,
}

impl Route<'_> {
    /// Registers the rule's series.
    pub(crate) fn register(self, recorder: &Recorder, workload: &Workload) -> RouteMetrics {
        let service = &self.port.service;
        let dst = format!("{service}.svc.cluster.local:{}", self.port.port);
        let ours = self.source.kind == ObjectRef::builtin("").kind;
        let route = match self.name {
            Some(name) => name.to_owned(),
            None if ours => "default".to_owned(),
            None => format!("{}/{}", self.source.name, self.index),
        };
        let mut labels = workload.labels();
        labels.extend([
            Label::from_static_parts("direction", "outbound"),
            Label::new("dst", dst),
            Label::new("rt_route", route),
            Label::new("rt_kind", self.source.kind.to_lowercase()),
            Label::new("rt_name", self.source.name.clone()),
        ]);
        let mut skipped = labels.clone();
        skipped.push(Label::from_static_parts("skipped", "no_budget"));
        let metrics = |names| Arc::new(RequestMetrics::named(recorder, labels.clone(), names));
        RouteMetrics {
            asked: metrics(ROUTES),
            tried: metrics(TRIES),
            no_budget: recorder.counter("route_retryable_total", skipped),
        }
    }
}
