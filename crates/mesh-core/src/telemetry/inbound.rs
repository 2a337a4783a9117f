//! The labels of what a process serves.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics::{Counter, CounterFn, Label};

use super::errors::{self, Errors, Word};
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
    /// Requests that were answered with an error of the mesh.
    pub(crate) errors: Arc<Errors>,
    /// Connections that never carried a request.
    connections: Errors,
}

/// Two counters of one event.
struct Both(Counter, Counter);

impl CounterFn for Both {
    fn increment(&self, value: u64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.0.absolute(value);
        self.1.absolute(value);
    }
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
        let connections = Errors::register(recorder, &labels, errors::INBOUND_TCP);
        let refused = recorder.counter("mesh_inbound_connections_refused_total", labels.clone());
        let shed = connections.say(Word::LoadShed).clone();
        Self {
            recorder: recorder.clone(),
            handshakes,
            errors: Arc::new(Errors::register(recorder, &labels, errors::INBOUND_HTTP)),
            connections,
            refused: Counter::from_arc(Arc::new(Both(refused, shed))),
            panics: recorder.counter("mesh_inbound_panics_total", labels.clone()),
            revoked: recorder.counter("mesh_inbound_connections_revoked_total", labels.clone()),
            labels,
        }
    }

    /// Counts a connection that ended before it could carry a request.
    pub(crate) fn handshake_failed(&self, why: &Unsecured) {
        let mut known = self.handshakes.iter();
        if let Some((_, failed)) = known.find(|(known, _)| *known == why.reason()) {
            failed.increment(1);
        }
        if let Some(word) = word(why) {
            self.connections.say(word).increment(1);
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

/// Linkerd's word for a connection that carried no request. One that was opened and closed in
/// silence is somebody's probe.
fn word(why: &Unsecured) -> Option<Word> {
    match why {
        Unsecured::Closed => None,
        Unsecured::Slow { .. } | Unsecured::Evicted => Some(Word::TlsDetectionTimeout),
        Unsecured::Broken(_) => Some(Word::Io),
        Unsecured::NotTls | Unsecured::Refused(_) => Some(Word::Unexpected),
    }
}
