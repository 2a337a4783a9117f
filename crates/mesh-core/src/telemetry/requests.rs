//! The three golden series of one endpoint, or of one client and verdict.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_policy::classify::{Classification, classify};
use mesh_policy::report::traffic::FlowKey;
use metrics::{Counter, Histogram, Label};

use super::errors::Errors;
use super::families::{
    CONTROL_RESPONSE_LATENCY_MS, RESPONSE_LATENCY_MS, ROUTE_RESPONSE_LATENCY_MS,
};
use super::{FlowCounts, Recorder};
use crate::answer::Cause;

/// Outcomes with cells of their own; later ones share one, labelled `other`.
///
/// A status is any number from 100 to 999 on the wire, so a peer chooses how many there are.
const MAX_OUTCOMES: usize = 48;

/// The names of three golden series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    requests: &'static str,
    responses: &'static str,
    /// `None` where nobody asks for it.
    latency: Option<&'static str>,
}

/// At an endpoint, or in a listener.
const TRAFFIC: Names = Names {
    requests: "request_total",
    responses: "response_total",
    latency: Some(RESPONSE_LATENCY_MS),
};
/// What was asked of a route.
pub(super) const ROUTES: Names = Names {
    requests: "route_request_total",
    responses: "route_response_total",
    latency: Some(ROUTE_RESPONSE_LATENCY_MS),
};
/// What was tried for it.
pub(super) const TRIES: Names = Names {
    requests: "route_actual_request_total",
    responses: "route_actual_response_total",
    latency: None,
};

/// What was asked of discovery.
pub(super) const CONTROL: Names = Names {
    requests: "control_request_total",
    responses: "control_response_total",
    latency: Some(CONTROL_RESPONSE_LATENCY_MS),
};

/// `request_total`, `response_total` and `response_latency_ms` for one set of labels.
///
/// The cells of an outcome are registered when it is first seen, in a list
/// that is read without a lock and only grows.
#[derive(Debug)]
pub struct RequestMetrics {
    requests: Counter,
    outcomes: OnceLock<Box<Node>>,
    recorder: Recorder,
    labels: Vec<Label>,
    flow: Option<Arc<FlowCounts>>,
    errors: Option<Arc<Errors>>,
    names: Names,
}

#[derive(Debug)]
struct Node {
    outcome: Option<Outcome>,
    responses: Counter,
    latency: Option<Histogram>,
    next: OnceLock<Box<Self>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The HTTP status; `None` if there was no response.
    pub status: Option<u16>,
    /// The gRPC status, if the call was gRPC and said one.
    pub grpc_status: Option<u16>,
    /// What broke, in Linkerd's words; empty for nothing.
    pub error: &'static str,
}

impl Outcome {
    fn classification(&self) -> Classification {
        match self.status {
            Some(status) if self.error.is_empty() => classify(status, self.grpc_status),
            _ => Classification::Failure,
        }
    }
}

impl RequestMetrics {
    /// Registers the series of `labels`, which hold everything but the outcome.
    #[must_use]
    pub fn new(recorder: &Recorder, labels: Vec<Label>) -> Self {
        Self::named(recorder, labels, TRAFFIC)
    }

    /// The same under other names.
    pub(super) fn named(recorder: &Recorder, labels: Vec<Label>, names: Names) -> Self {
        Self {
            requests: recorder.counter(names.requests, labels.clone()),
            outcomes: OnceLock::new(),
            recorder: recorder.clone(),
            labels,
            flow: None,
            errors: None,
            names,
        }
    }

    /// The same, told to discovery as `flow`.
    #[must_use]
    pub(crate) fn reported(self, flow: FlowKey) -> Self {
        Self {
            flow: self.recorder.ledger().flow(flow),
            ..self
        }
    }

    /// The same, with what the mesh itself answers with an error.
    #[must_use]
    pub(crate) fn with_errors(self, errors: Arc<Errors>) -> Self {
        Self {
            errors: Some(errors),
            ..self
        }
    }

    /// Counts an answer that the mesh made because of `cause`.
    pub(super) fn count_error(&self, cause: Cause) {
        if let Some(errors) = &self.errors {
            errors.count(cause);
        }
    }

    /// Counts a request.
    pub fn count_request(&self) {
        self.requests.increment(1);
    }

    /// Counts how a request ended, and how long the first data took if there was a response.
    pub fn count_outcome(&self, outcome: Outcome, latency: Option<Duration>) {
        let node = self.node(outcome);
        node.responses.increment(1);
        if let (Some(histogram), Some(latency)) = (&node.latency, latency) {
            histogram.record(latency.as_secs_f64() * 1_000.0);
        }
        if let Some(flow) = &self.flow {
            flow.count(outcome.classification(), latency);
        }
    }

    fn node(&self, outcome: Outcome) -> &Node {
        let mut slot = &self.outcomes;
        for _ in 0..MAX_OUTCOMES {
            let node = slot.get_or_init(|| Box::new(self.register(Some(outcome))));
            if node.outcome == Some(outcome) {
                return node;
            }
            slot = &node.next;
        }
        slot.get_or_init(|| Box::new(self.register(None)))
    }

    /// Registers the cells of an outcome; `None` is all that no longer get their own.
    fn register(&self, outcome: Option<Outcome>) -> Node {
        let number = |code: Option<u16>| code.map_or_else(String::new, |code| code.to_string());
        let (status, class, grpc, error) = match outcome {
            Some(outcome) => (
                number(outcome.status),
                outcome.classification().as_str(),
                number(outcome.grpc_status),
                outcome.error,
            ),
            None => ("other".to_owned(), "failure", String::new(), "unclassified"),
        };
        let mut labels = self.labels.clone();
        labels.push(Label::new("status_code", status));
        let has_response = outcome.is_none_or(|outcome| outcome.status.is_some());
        let latency = self.names.latency.filter(|_| has_response);
        let latency = latency.map(|name| self.recorder.histogram(name, labels.clone()));
        labels.push(Label::from_static_parts("classification", class));
        labels.push(Label::new("grpc_status", grpc));
        labels.push(Label::from_static_parts("error", error));
        Node {
            outcome,
            responses: self.recorder.counter(self.names.responses, labels),
            latency,
            next: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn setup() -> (Recorder, RequestMetrics) {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        let labels = vec![Label::new("direction", "inbound")];
        let requests = RequestMetrics::new(&recorder, labels);
        (recorder, requests)
    }

    fn status(code: u16) -> Outcome {
        Outcome {
            status: Some(code),
            grpc_status: None,
            error: "",
        }
    }

    #[test]
    fn an_outcome_counts_into_its_own_cell() {
        let (recorder, requests) = setup();
        requests.count_request();
        requests.count_outcome(status(200), Some(Duration::from_millis(3)));
        requests.count_outcome(status(503), Some(Duration::from_millis(3)));
        requests.count_outcome(status(200), Some(Duration::from_millis(3)));
        let text = recorder.render();
        for line in [
            r#"request_total{direction="inbound"} 1"#,
            r#"response_total{direction="inbound",status_code="200",classification="success",grpc_status="",error=""} 2"#,
            r#"response_total{direction="inbound",status_code="503",classification="failure",grpc_status="",error=""} 1"#,
            r#"response_latency_ms_count{direction="inbound",status_code="200"} 2"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn a_peer_that_invents_statuses_cannot_grow_the_series() {
        let (recorder, requests) = setup();
        for code in 100..=999 {
            requests.count_outcome(status(code), None);
        }
        let text = recorder.render();
        assert_eq!(text.matches("\nresponse_total{").count(), MAX_OUTCOMES + 1);
        assert!(text.contains(r#"status_code="other""#));
    }
}
