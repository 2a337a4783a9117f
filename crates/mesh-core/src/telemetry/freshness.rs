//! How old what discovery said is.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::Gauge;
use tokio::time::Instant;

use super::{Recorder, Workload};

/// Since when nothing came from discovery. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    age: Gauge,
    heard: Arc<Mutex<Instant>>,
}

impl Freshness {
    pub(crate) fn new(recorder: &Recorder, workload: &Workload) -> Self {
        Self {
            age: recorder.gauge("mesh_config_age_seconds", workload.labels()),
            heard: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Discovery has said something: a change, or that there is none.
    pub(crate) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Brings the gauge up to date.
    pub(crate) fn tick(&self) {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.age.set(heard.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test(start_paused = true)]
    async fn z15_the_age_grows_until_discovery_says_something() {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        let workload = Workload {
            namespace: "shop".into(),
            deployment: "api".into(),
            pod: "api-1".into(),
        };
        let freshness = Freshness::new(&recorder, &workload);
        let shown = || {
            freshness.tick();
            let text = recorder.render();
            let line = text
                .lines()
                .find(|line| line.starts_with("mesh_config_age_seconds{"));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        };
        tokio::time::advance(Duration::from_secs(36_000)).await;
        assert!((shown().expect("a gauge") - 36_000.0).abs() < 1.0);
        freshness.heard();
        assert!(shown().expect("a gauge") < 1.0);
    }
}
