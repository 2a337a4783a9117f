//! The process's recorder, when the mesh is asked to be that too.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::families;
use super::registry::{Registry, Stay};

/// Takes what the application registers: under a name of the mesh's into the mesh's own
/// family, so that no family is shown twice, and all else into Prometheus' exporter.
#[derive(Debug)]
pub(super) struct Shared {
    registry: Arc<Registry>,
    others: PrometheusRecorder,
}

impl Shared {
    pub(super) const fn new(registry: Arc<Registry>, others: PrometheusRecorder) -> Self {
        Self { registry, others }
    }
}

impl Recorder for Shared {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        if families::counter(name.as_str()).is_none() {
            self.others.describe_counter(name, unit, text);
        }
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        if families::gauge(name.as_str()).is_none() {
            self.others.describe_gauge(name, unit, text);
        }
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        if families::histogram(name.as_str()).is_none() {
            self.others.describe_histogram(name, unit, text);
        }
    }

    // The macros look a series up for each count and hold nothing, so it stays.

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        match families::counter(key.name()) {
            Some(ours) => self.registry.counter(ours, &labels(key), Stay::ForEver),
            None => self.others.register_counter(key, metadata),
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match families::gauge(key.name()) {
            Some(ours) => self.registry.gauge(ours, &labels(key), Stay::ForEver),
            None => self.others.register_gauge(key, metadata),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match families::histogram(key.name()) {
            Some(ours) => self.registry.histogram(ours, &labels(key), Stay::ForEver),
            None => self.others.register_histogram(key, metadata),
        }
    }
}

fn labels(key: &Key) -> Vec<metrics::Label> {
    key.labels().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn an_applications_metrics_stay_its_own_and_no_family_is_there_twice() {
        let exporter = Metrics::builder().build_recorder();
        let handle = exporter.handle();
        let registry = Arc::<Registry>::default();
        let shared = Shared::new(Arc::clone(&registry), exporter);
        metrics::with_local_recorder(&shared, || {
            metrics::counter!("carts_total").increment(2);
            metrics::counter!("request_total", "direction" => "sideways").increment(3);
            metrics::gauge!("tcp_open_connections").set(4.0);
            metrics::histogram!("response_latency_ms").record(5.0);
            metrics::describe_counter!("request_total", "in other words");
        });
        let (ours, theirs) = (registry.render(), handle.render());
        assert!(ours.contains(r#"request_total{direction="sideways"} 3"#));
        assert!(ours.contains("tcp_open_connections 4"), "{ours}");
        assert!(ours.contains("response_latency_ms_sum 5"), "{ours}");
        assert!(theirs.contains("carts_total 2"), "{theirs}");
        assert!(!theirs.contains("request_total"), "{theirs}");
    }
}
