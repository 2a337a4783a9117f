//! What a process says of itself.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Recorder, Workload};

/// Notes that the process has joined now. Dashboards list namespaces and deployments by this series.
pub(crate) fn started(recorder: &Recorder, workload: &Workload) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.map_or(0.0, |since| since.as_secs_f64());
    recorder
        .lasting_gauge("process_start_time_seconds", workload.labels())
        .set(seconds);
}
