//! The series of the process's own certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use metrics::{Counter, Gauge, Label};

use super::{Recorder, Workload};

/// How a process's certificate stands. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct IdentityMetrics {
    left: Gauge,
    expiration: Gauge,
    refresh: Gauge,
    renewed: Counter,
    failed: Counter,
    /// When the certificate ends, in seconds since the Unix epoch.
    not_after: Arc<AtomicU64>,
}

impl IdentityMetrics {
    pub(crate) fn new(recorder: &Recorder, workload: &Workload) -> Self {
        let labels = workload.labels();
        let result = |result| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("result", result));
            recorder.counter("control_identity_cert_refreshes_total", labels)
        };
        let gauge = |name| recorder.gauge(name, labels.clone());
        Self {
            left: gauge("mesh_cert_expiry_seconds"),
            expiration: gauge("control_identity_cert_expiration_timestamp_seconds"),
            refresh: gauge("control_identity_cert_refresh_timestamp_seconds"),
            renewed: result("ok"),
            failed: result("error"),
            not_after: Arc::default(),
        }
    }

    /// There is a certificate, which ends at `not_after`.
    pub(crate) fn holds(&self, not_after: SystemTime) {
        let end = seconds(not_after);
        self.not_after.store(end, Ordering::Relaxed);
        self.expiration.set(number(end));
        self.refresh.set(number(seconds(SystemTime::now())));
        self.tick();
    }

    /// There is a new one.
    pub(crate) fn refreshed(&self, not_after: SystemTime) {
        self.renewed.increment(1);
        self.holds(not_after);
    }

    /// There should be a new one, and is not.
    pub(crate) fn failed(&self) {
        self.failed.increment(1);
    }

    /// Brings what is left up to date; negative once the certificate has ended.
    pub(crate) fn tick(&self) {
        let end = number(self.not_after.load(Ordering::Relaxed));
        self.left.set(end - number(seconds(SystemTime::now())));
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
fn number(seconds: u64) -> f64 {
    seconds as f64
}
