//! What a process asks of discovery.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use mesh_policy::identity::{Identity, TrustDomain};
use metrics::{Counter, Gauge, Label};

use super::requests::CONTROL;
use super::{Outcome, Recorder, RequestMetrics, Workload};

/// Registers the series of calls to discovery. Cheap to clone.
///
/// There are none before a process has an identity: nobody knows yet whose series they were.
#[derive(Clone, Debug)]
pub(crate) struct ControlMetrics {
    recorder: Recorder,
    labels: Vec<Label>,
}

impl ControlMetrics {
    /// For a process that is `identity`.
    pub(crate) fn new(recorder: &Recorder, workload: &Workload, identity: &Identity) -> Self {
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("tls", "true"));
        if let Ok(domain) = identity.trust_domain().parse::<TrustDomain>() {
            let server = Identity::discovery(&domain);
            labels.push(Label::new("server_id", server.to_string()));
        }
        Self {
            recorder: recorder.clone(),
            labels,
        }
    }

    /// The series of calls to the server at `url`.
    pub(crate) fn of(&self, url: &Uri) -> Calls {
        let addr = url.authority().map_or("", |authority| authority.as_str());
        let mut labels = self.labels.clone();
        labels.push(Label::new("addr", addr.to_owned()));
        Calls(Arc::new(RequestMetrics::named(
            &self.recorder,
            labels,
            CONTROL,
        )))
    }
}

/// The series of calls to one discovery server.
#[derive(Clone, Debug)]
pub(crate) struct Calls(Arc<RequestMetrics>);

impl Calls {
    /// A call begins.
    pub(crate) fn asked(&self) {
        self.0.count_request();
    }

    /// The head of an answer is there.
    pub(crate) fn answered(&self, status: u16, latency: Duration) {
        let outcome = Outcome {
            status: Some(status),
            grpc_status: None,
            error: "",
        };
        self.0.count_outcome(outcome, Some(latency));
    }

    /// There was no answer; `error` is Linkerd's word for why.
    pub(crate) fn failed(&self, error: &'static str) {
        let outcome = Outcome {
            status: None,
            grpc_status: None,
            error,
        };
        self.0.count_outcome(outcome, None);
    }
}

/// The series of one task of the control thread.
#[derive(Clone, Debug)]
pub(crate) struct TaskMetrics {
    up: Gauge,
    /// How often it panicked and was restarted.
    pub(crate) restarts: Counter,
}

impl TaskMetrics {
    pub(crate) fn new(recorder: &Recorder, workload: &Workload, task: &'static str) -> Self {
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("task", task));
        Self {
            up: recorder.gauge("mesh_control_up", labels.clone()),
            restarts: recorder.counter("mesh_control_restarts_total", labels),
        }
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.set(f64::from(u8::from(up)));
    }
}
