//! The labels of what a process serves.

use std::net::SocketAddr;

use metrics::{Counter, Label};

use super::{Recorder, Workload};
use crate::transport::secure::Unsecured;

/// The socket of a request's target, in the three labels that Linkerd has for it.
pub(super) fn target(address: SocketAddr) -> [Label; 3] {
    [
        Label::new("target_addr", address.to_string()),
        Label::new("target_ip", address.ip().to_string()),
        Label::new("target_port", address.port().to_string()),
    ]
}

/// What a listener counts apart from requests.
#[derive(Debug)]
pub struct ListenerMetrics {
    recorder: Recorder,
    labels: Vec<Label>,
    /// Connections beyond the limit.
    pub refused: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Connections cut because policy turned against what went on in them.
    pub revoked: Counter,
    /// By reason.
    handshakes: [(&'static str, Counter); Unsecured::REASONS.len()],
}

impl ListenerMetrics {
    /// Registers the series of the listener at `address`.
    #[must_use]
    pub fn new(recorder: &Recorder, workload: &Workload, address: SocketAddr) -> Self {
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("direction", "inbound"));
        labels.extend(target(address));
        let handshakes = Unsecured::REASONS.map(|reason| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("reason", reason));
            let failed = recorder.counter("mesh_inbound_handshake_failures_total", labels);
            (reason, failed)
        });
        Self {
            recorder: recorder.clone(),
            handshakes,
            refused: recorder.counter("mesh_inbound_connections_refused_total", labels.clone()),
            panics: recorder.counter("mesh_inbound_panics_total", labels.clone()),
            revoked: recorder.counter("mesh_inbound_connections_revoked_total", labels.clone()),
            labels,
        }
    }

    /// Counts a connection that ended before it could carry a request.
    pub(crate) fn handshake_failed(&self, reason: &'static str) {
        let mut known = self.handshakes.iter();
        if let Some((_, failed)) = known.find(|(known, _)| *known == reason) {
            failed.increment(1);
        }
    }

    /// The labels of the listener's own series.
    pub(crate) fn labels(&self) -> &[Label] {
        &self.labels
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}
