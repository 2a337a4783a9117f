//! Where series are registered and how they are rendered.
//!
//! Each `Mesh` owns its recorder and registers on it directly, so that two of
//! them in one program do not mix, and an application's own metrics are theirs.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::bound::{self, Bound};
use super::families::{COUNTERS, GAUGES, HISTOGRAMS};
use super::ledger::Ledger;

/// The name of the counter of series that found no room.
pub(super) const OVERFLOW: &str = "mesh_metrics_overflow_total";

const METADATA: Metadata<'_> = Metadata::new("mesh", Level::INFO, Some("mesh_core"));

type Family = (&'static str, &'static [f64], &'static str);
type AnyRecorder = Arc<dyn metrics::Recorder + Send + Sync>;
type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Which recorder the mesh's series live on.
#[derive(Clone, Default)]
pub enum Metrics {
    /// One of its own; the application's metrics stay where they are.
    #[default]
    Own,
    /// One of its own that also becomes the process's recorder of the `metrics` crate, so that the
    /// application's metrics are served on the admin port too.
    Global,
    /// [`Metrics::Global`] if nobody has installed a recorder, else [`Metrics::Own`], with one log
    /// line: what [`crate::Config::from_env`] chooses.
    GlobalOrOwn,
    /// One that the application made. A foreign recorder can be written to but not
    /// rendered, so it says how; it needs the buckets of [`Metrics::builder`].
    Given {
        /// What series are registered on.
        recorder: AnyRecorder,
        /// Renders everything in Prometheus' text format.
        render: Render,
    },
}

impl Metrics {
    /// A Prometheus exporter with the buckets that the mesh's histograms need.
    ///
    /// # Panics
    ///
    /// Never: the list of buckets is not empty.
    #[must_use]
    pub fn builder() -> PrometheusBuilder {
        let buckets = |builder: PrometheusBuilder, (name, buckets, _): &Family| {
            let family = Matcher::Full((*name).to_owned());
            builder
                .set_buckets_for_metric(family, buckets)
                .expect("the list of buckets is not empty")
        };
        HISTOGRAMS.iter().fold(PrometheusBuilder::new(), buckets)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "Own",
            Self::Global => "Global",
            Self::GlobalOrOwn => "GlobalOrOwn",
            Self::Given { .. } => "Given",
        })
    }
}

/// Why a recorder could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetrics {
    /// The process has a recorder already.
    #[error(
        "Metrics::Global needs a process without a metrics recorder: use Own, or Given with the recorder that is installed"
    )]
    AlreadyInstalled,
}

/// Registers series and renders them. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    registry: AnyRecorder,
    output: Output,
    bound: Arc<Bound>,
    ledger: Arc<Ledger>,
}

#[derive(Clone)]
enum Output {
    Prometheus(PrometheusHandle),
    Given(Render),
}

impl Recorder {
    /// Makes or takes the recorder that `metrics` names.
    ///
    /// # Errors
    ///
    /// [`InvalidMetrics::AlreadyInstalled`] for [`Metrics::Global`] in a process that has a recorder.
    pub fn new(metrics: Metrics) -> Result<Self, InvalidMetrics> {
        let recorder = match metrics {
            Metrics::Own => Self::own(),
            Metrics::Global => {
                let recorder = Self::own();
                metrics::set_global_recorder(Arc::clone(&recorder.registry))
                    .map_err(|_| InvalidMetrics::AlreadyInstalled)?;
                recorder
            }
            Metrics::GlobalOrOwn => return Ok(Self::from_environment()),
            Metrics::Given { recorder, render } => Self {
                registry: recorder,
                output: Output::Given(render),
                bound: Arc::default(),
                ledger: Arc::default(),
            },
        };
        recorder.describe();
        Ok(recorder)
    }

    /// [`Metrics::Global`] if nobody has installed a recorder, else [`Metrics::Own`].
    fn from_environment() -> Self {
        Self::new(Metrics::Global).unwrap_or_else(|taken| {
            tracing::info!(%taken, "the mesh's metrics live on a recorder of their own");
            let recorder = Self::own();
            recorder.describe();
            recorder
        })
    }

    fn own() -> Self {
        let recorder = Metrics::builder().build_recorder();
        let handle = recorder.handle();
        Self {
            registry: Arc::new(recorder),
            output: Output::Prometheus(handle),
            bound: Arc::default(),
            ledger: Arc::default(),
        }
    }

    /// Everything on the recorder, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        match &self.output {
            Output::Prometheus(handle) => handle.render(),
            Output::Given(render) => render(),
        }
    }

    /// Folds recorded latencies into their buckets; call it every few seconds, or memory grows
    /// with each request until the next scrape. A given recorder has its owner for that.
    pub fn upkeep(&self) {
        match &self.output {
            Output::Prometheus(handle) => handle.run_upkeep(),
            Output::Given(_) => {}
        }
    }

    /// What discovery is told.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Registers a counter.
    pub fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let key = self.key(name, labels, bound::MAX_SERIES);
        self.registry.register_counter(&key, &METADATA)
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        let key = self.key(name, labels, bound::MAX_SERIES);
        self.registry.register_gauge(&key, &METADATA)
    }

    /// Registers a histogram.
    pub fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        let key = self.key(name, labels, bound::MAX_HISTOGRAMS);
        self.registry.register_histogram(&key, &METADATA)
    }

    /// The series' own key, or its family's overflow series' if that has `most` already.
    fn key(&self, name: &'static str, labels: Vec<Label>, most: usize) -> Key {
        if self.bound.admits(name, &labels, most) {
            return Key::from_parts(name, labels);
        }
        let family = vec![Label::from_static_parts("family", name)];
        self.registry
            .register_counter(&Key::from_parts(OVERFLOW, family), &METADATA)
            .increment(1);
        Key::from_parts(name, bound::overflow(&labels))
    }

    fn describe(&self) {
        for (name, text) in COUNTERS.iter().copied() {
            self.registry
                .describe_counter(name.into(), None, text.into());
        }
        for (name, text) in GAUGES.iter().copied() {
            self.registry.describe_gauge(name.into(), None, text.into());
        }
        for (name, _, text) in HISTOGRAMS.iter().copied() {
            self.registry
                .describe_histogram(name.into(), None, text.into());
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// Whose series these are: labels on each of the mesh's, never on the application's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Label `namespace`.
    pub namespace: String,
    /// The workload's name, label `deployment`.
    pub deployment: String,
    /// The instance's name, label `pod`.
    pub pod: String,
}

impl Workload {
    /// The three labels.
    #[must_use]
    pub fn labels(&self) -> Vec<Label> {
        vec![
            Label::new("namespace", self.namespace.clone()),
            Label::new("deployment", self.deployment.clone()),
            Label::new("pod", self.pod.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::families::RESPONSE_LATENCY_MS;

    #[test]
    fn o11_a_family_that_is_full_sends_what_is_new_to_one_series() {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        let labels = |client: usize| {
            vec![
                Label::new("direction", "inbound"),
                Label::new("client_id", client.to_string()),
            ]
        };
        let first = recorder.counter("request_total", labels(0));
        for client in 0..100_000 {
            recorder
                .counter("request_total", labels(client))
                .increment(1);
        }
        first.increment(1);
        let text = recorder.render();
        let series = text.matches("\nrequest_total{").count();
        assert_eq!(series, bound::MAX_SERIES + 1);
        for line in [
            r#"request_total{direction="inbound",client_id="0"} 2"#,
            r#"request_total{direction="inbound",overflow="true"} 90000"#,
            r#"mesh_metrics_overflow_total{family="request_total"} 90000"#,
        ] {
            assert!(text.contains(line), "no {line}");
        }
    }

    #[test]
    fn latencies_fall_into_linkerds_buckets() {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        recorder
            .histogram(RESPONSE_LATENCY_MS, Vec::new())
            .record(35.0);
        recorder.upkeep();
        let text = recorder.render();
        assert!(
            text.contains("response_latency_ms_bucket{le=\"30\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("response_latency_ms_bucket{le=\"40\"} 1"),
            "{text}"
        );
        assert_eq!(text.matches("_bucket{").count(), 26, "{text}");
    }

    #[test]
    fn a_given_recorder_is_written_to_and_rendered_by_its_owner() {
        let theirs = Metrics::builder().build_recorder();
        let handle = theirs.handle();
        let given = Metrics::Given {
            recorder: Arc::new(theirs),
            render: Arc::new(move || handle.render()),
        };
        let recorder = Recorder::new(given).expect("a given recorder is taken");
        recorder.counter("request_total", Vec::new()).increment(2);
        assert!(recorder.render().contains("request_total 2"));
    }
}
