//! Where series are registered and how they are rendered.
//!
//! Each `Mesh` owns its recorder and registers on it directly, so that two of
//! them in one program do not mix, and an application's own metrics are theirs.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::Instant;

use super::bound::{self, Bound};
use super::families::{COUNTERS, GAUGES, HISTOGRAMS, OVERFLOW};
use super::ledger::Ledger;
use super::registry::{Registry, Stay};
use super::shared::Shared;

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
///
/// A series lives as long as its handle, and ten minutes longer: see [`Recorder::counter`].
#[derive(Clone)]
pub struct Recorder {
    home: Home,
    ledger: Arc<Ledger>,
}

/// Where the series are.
#[derive(Clone)]
enum Home {
    /// With us; what the application registers under names of its own is in the exporter.
    Ours {
        registry: Arc<Registry>,
        others: Option<PrometheusHandle>,
    },
    /// On the application's recorder, which forgets nothing.
    Given {
        recorder: AnyRecorder,
        render: Render,
        bound: Arc<Bound>,
    },
}

impl Recorder {
    /// Makes or takes the recorder that `metrics` names.
    ///
    /// # Errors
    ///
    /// [`InvalidMetrics::AlreadyInstalled`] for [`Metrics::Global`] in a process that has a recorder.
    pub fn new(metrics: Metrics) -> Result<Self, InvalidMetrics> {
        let home = match metrics {
            Metrics::Own => Home::own(),
            Metrics::Global => Home::global()?,
            Metrics::GlobalOrOwn => Home::global().unwrap_or_else(|taken| {
                tracing::info!(%taken, "the mesh's metrics live on a recorder of their own");
                Home::own()
            }),
            Metrics::Given { recorder, render } => Home::given(recorder, render),
        };
        Ok(Self {
            home,
            ledger: Arc::default(),
        })
    }

    /// Everything on the recorder, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        match &self.home {
            Home::Ours { registry, others } => {
                let mut text = registry.render();
                if let Some(others) = others {
                    text.push_str(&others.render());
                }
                text
            }
            Home::Given { render, .. } => render(),
        }
    }

    /// Lets series go that nobody has held for ten minutes, and folds the application's own
    /// histograms; call it every few seconds. A given recorder has its owner for that.
    pub fn upkeep(&self) {
        if let Home::Ours { registry, others } = &self.home {
            registry.sweep(Instant::now());
            if let Some(others) = others {
                others.run_upkeep();
            }
        }
        self.ledger.sweep();
    }

    /// What discovery is told.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Registers a counter, or finds it.
    ///
    /// Hold what this returns for as long as the thing lives that it counts: ten minutes after
    /// the last handle is dropped the series goes, and would begin again at zero.
    pub fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        match &self.home {
            Home::Ours { registry, .. } => registry.counter(name, &labels, Stay::WhileHeld),
            Home::Given { recorder, .. } => {
                let key = self.home.key(name, labels, bound::MAX_SERIES);
                recorder.register_counter(&key, &METADATA)
            }
        }
    }

    /// Registers a gauge, or finds it; as for [`Recorder::counter`].
    pub fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.level(name, labels, Stay::WhileHeld)
    }

    /// A gauge of the process as a whole, which stays though nobody holds it.
    pub(super) fn lasting_gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.level(name, labels, Stay::ForEver)
    }

    fn level(&self, name: &'static str, labels: Vec<Label>, stay: Stay) -> Gauge {
        match &self.home {
            Home::Ours { registry, .. } => registry.gauge(name, &labels, stay),
            Home::Given { recorder, .. } => {
                let key = self.home.key(name, labels, bound::MAX_SERIES);
                recorder.register_gauge(&key, &METADATA)
            }
        }
    }

    /// Registers a histogram, or finds it; as for [`Recorder::counter`].
    pub fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        match &self.home {
            Home::Ours { registry, .. } => registry.histogram(name, &labels, Stay::WhileHeld),
            Home::Given { recorder, .. } => {
                let key = self.home.key(name, labels, bound::MAX_HISTOGRAMS);
                recorder.register_histogram(&key, &METADATA)
            }
        }
    }
}

impl Home {
    fn own() -> Self {
        Self::Ours {
            registry: Arc::default(),
            others: None,
        }
    }

    /// The process's recorder, for the application's metrics as well.
    fn global() -> Result<Self, InvalidMetrics> {
        let exporter = Metrics::builder().build_recorder();
        let others = Some(exporter.handle());
        let registry = Arc::<Registry>::default();
        let shared = Shared::new(Arc::clone(&registry), exporter);
        metrics::set_global_recorder(shared).map_err(|_| InvalidMetrics::AlreadyInstalled)?;
        Ok(Self::Ours { registry, others })
    }

    fn given(recorder: AnyRecorder, render: Render) -> Self {
        for (name, text) in COUNTERS.iter().copied() {
            recorder.describe_counter(name.into(), None, text.into());
        }
        for (name, text) in GAUGES.iter().copied() {
            recorder.describe_gauge(name.into(), None, text.into());
        }
        for (name, _, text) in HISTOGRAMS.iter().copied() {
            recorder.describe_histogram(name.into(), None, text.into());
        }
        Self::Given {
            recorder,
            render,
            bound: Arc::default(),
        }
    }

    /// The key of a series on a given recorder, or of its family's overflow series if that
    /// has `most` already.
    fn key(&self, name: &'static str, labels: Vec<Label>, most: usize) -> Key {
        match self {
            Self::Given {
                recorder, bound, ..
            } if !bound.admits(name, &labels, most) => {
                let family = vec![Label::from_static_parts("family", name)];
                recorder
                    .register_counter(&Key::from_parts(OVERFLOW, family), &METADATA)
                    .increment(1);
                Key::from_parts(name, bound::overflow(&labels))
            }
            Self::Ours { .. } | Self::Given { .. } => Key::from_parts(name, labels),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
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
