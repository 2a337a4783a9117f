//! What discovery counts of itself, with handles made once at the start.

use std::time::SystemTime;

use mesh_tls::issuer::Issuer;
use metrics::{Counter, Gauge, Key, KeyName, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Discovery's own metrics. Each server has its own, so that several fit into one process.
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    /// Connections that are open now.
    pub(crate) connections: Gauge,
    /// TLS handshakes that made no connection.
    pub(crate) handshakes_refused: Counter,
    /// Certificates that were issued to processes.
    pub(crate) certificates_issued: Counter,
    /// Requests for a certificate that were refused.
    pub(crate) enrolments_refused: Counter,
    /// Watches that are open now.
    pub(crate) watches: Gauge,
    /// Watches whose connection was lost and whose endpoints have left.
    pub(crate) watches_expired: Counter,
    /// Parts of plans that processes reported as not understood.
    pub(crate) rejections: Counter,
    /// Flows that processes reported and that were not kept.
    pub(crate) flows_dropped: Counter,
    /// Bytes that watches hold.
    pub(crate) watch_bytes: Gauge,
    /// Requests that were refused for being too many, or asking for too much to be kept.
    pub(crate) over_limit: Counter,
    /// Bytes that reported traffic takes up.
    pub(crate) traffic_bytes: Gauge,
    /// The revision that is being told.
    pub(crate) revision: Gauge,
    /// Endpoints that are registered.
    pub(crate) endpoints: Gauge,
    /// Stored records that this version cannot read.
    pub(crate) unreadable: Gauge,
    /// Tasks that ended before their server.
    pub(crate) tasks_ended: Counter,
    /// Requests whose handler panicked.
    pub(crate) panics: Counter,
    /// Whether the store takes writes.
    pub(crate) store_writable: Gauge,
    /// How long certificates still count.
    pub(crate) expiry: Expiry,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let gauge = |name, help| gauge(&recorder, name, help);
        let counter = |name, help| counter(&recorder, name, help);
        Self {
            handle: recorder.handle(),
            connections: gauge("mesh_discovery_connections", "Connections that are open."),
            handshakes_refused: counter(
                "mesh_discovery_handshakes_refused_total",
                "TLS handshakes that made no connection.",
            ),
            certificates_issued: counter(
                "mesh_discovery_certificates_issued_total",
                "Certificates issued to processes; an answer that is repeated counts once.",
            ),
            enrolments_refused: counter(
                "mesh_discovery_enrolments_refused_total",
                "Requests for a certificate that were refused.",
            ),
            watches: gauge("mesh_discovery_watches", "Watches that are open."),
            watches_expired: counter(
                "mesh_discovery_watches_expired_total",
                "Watches that ended and were not taken up again within the grace.",
            ),
            rejections: counter(
                "mesh_discovery_rejections_total",
                "Parts of plans that processes reported as not understood.",
            ),
            flows_dropped: counter(
                "mesh_discovery_flows_dropped_total",
                "Reported traffic that was not kept: not the reporter's own, or too much.",
            ),
            watch_bytes: gauge(
                "mesh_discovery_watch_bytes",
                "Bytes that watches hold, those too that ended a moment ago, roughly.",
            ),
            over_limit: counter(
                "mesh_discovery_over_limit_total",
                "Requests of processes that were refused with 429.",
            ),
            traffic_bytes: gauge(
                "mesh_discovery_traffic_bytes",
                "Bytes that reported traffic takes up, roughly.",
            ),
            revision: gauge(
                "mesh_discovery_revision",
                "The store's revision that watches are told.",
            ),
            endpoints: gauge("mesh_discovery_endpoints", "Endpoints that are registered."),
            unreadable: gauge(
                "mesh_discovery_unreadable_records",
                "Stored records that this version cannot read; what they govern is closed.",
            ),
            tasks_ended: counter(
                "mesh_discovery_tasks_ended_total",
                "Tasks that ended before the server; one is enough for it to be not ready.",
            ),
            panics: counter(
                "mesh_discovery_panics_total",
                "Requests that met a defect of discovery and were answered 500.",
            ),
            store_writable: gauge(
                "mesh_discovery_store_writable",
                "1 while the store takes writes, else 0.",
            ),
            expiry: Expiry::new(&recorder),
        }
    }

    /// The text form that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

/// Seconds until certificates end; below 0 once they have.
pub(crate) struct Expiry {
    root: Gauge,
    issuer: Gauge,
    own: Gauge,
}

impl Expiry {
    fn new(recorder: &PrometheusRecorder) -> Self {
        Self {
            root: gauge(
                recorder,
                "mesh_discovery_root_expiry_seconds",
                "Seconds until the root ends; below 0 once it has ended.",
            ),
            issuer: gauge(
                recorder,
                "mesh_discovery_issuer_expiry_seconds",
                "Seconds until the issuer ends; below 0 once it has ended.",
            ),
            own: gauge(
                recorder,
                "mesh_discovery_certificate_expiry_seconds",
                "Seconds until discovery's own certificate ends; below 0 once it has ended.",
            ),
        }
    }

    /// Says how long `issuer`, its root, and the server's own certificate still count.
    pub(crate) fn set(&self, issuer: &Issuer, own: f64, now: SystemTime) {
        self.root.set(seconds_to(issuer.root_not_after(), now));
        self.issuer.set(seconds_to(issuer.not_after(), now));
        self.own.set(own);
    }
}

fn seconds_to(end: SystemTime, now: SystemTime) -> f64 {
    match end.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    }
}

const METADATA: Metadata<'static> = Metadata::new(
    "mesh_discovery",
    metrics::Level::INFO,
    Some("mesh_discovery"),
);

fn counter(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Counter {
    let key = KeyName::from_const_str(name);
    recorder.describe_counter(key, None, SharedString::const_str(help));
    recorder.register_counter(&Key::from_static_name(name), &METADATA)
}

fn gauge(recorder: &PrometheusRecorder, name: &'static str, help: &'static str) -> Gauge {
    let key = KeyName::from_const_str(name);
    recorder.describe_gauge(key, None, SharedString::const_str(help));
    recorder.register_gauge(&Key::from_static_name(name), &METADATA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_anything_happens() {
        let text = Metrics::new().render();
        for name in [
            "connections",
            "handshakes_refused_total",
            "certificates_issued_total",
            "watches",
            "revision",
        ] {
            assert!(text.contains(&format!("mesh_discovery_{name} 0")), "{text}");
        }
    }
}
