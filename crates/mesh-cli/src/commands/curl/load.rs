//! Many requests, and their summary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mesh_core::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::request::{self, Form, Sample};

/// How many requests, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) requests: u32,
    pub(super) concurrency: u32,
    /// Per second.
    pub(super) rate: Option<f64>,
}

impl Load {
    /// Sends all of them, or as many as there is time for until `stop`.
    pub(super) async fn run(
        self,
        client: &Client,
        form: &Form,
        stop: impl Future<Output = ()>,
    ) -> Summary {
        let started = Instant::now();
        let next = Arc::new(AtomicU32::new(0));
        let form = Arc::new(form.clone());
        let (stopping, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..self.concurrency.min(self.requests) {
            let (client, form, next) = (client.clone(), Arc::clone(&form), Arc::clone(&next));
            let mut stopped = stopped.clone();
            workers.spawn(async move {
                let mut counted = Summary::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= self.requests {
                        return counted;
                    }
                    let one = async {
                        if let Some(rate) = self.rate {
                            let due = Duration::from_secs_f64(f64::from(number) / rate);
                            sleep_until(started + due).await;
                        }
                        request::count(&client, &form).await
                    };
                    tokio::select! {
                        sample = one => counted.add(&sample),
                        // Or the run has ended without us.
                        _ = stopped.wait_for(|stopped| *stopped) => return counted,
                    }
                }
            });
        }
        let all = workers.join_all();
        tokio::pin!(all);
        let (counted, interrupted) = tokio::select! {
            counted = &mut all => (counted, false),
            () = stop => {
                stopping.send_replace(true);
                (all.await, true)
            }
        };
        let mut summary = counted.into_iter().fold(Summary::default(), Summary::and);
        summary.latencies.sort_unstable();
        summary.lasted = started.elapsed();
        summary.interrupted = interrupted;
        summary
    }
}

/// What became of many requests.
#[derive(Debug, Default)]
pub(super) struct Summary {
    statuses: BTreeMap<String, u64>,
    backends: BTreeMap<String, u64>,
    endpoints: BTreeMap<String, u64>,
    /// By the mesh's reason.
    errors: BTreeMap<String, u64>,
    failed: bool,
    interrupted: bool,
    latencies: Vec<Duration>,
    lasted: Duration,
}

impl Summary {
    fn add(&mut self, sample: &Sample) {
        fn count(map: &mut BTreeMap<String, u64>, key: Option<String>) {
            if let Some(key) = key {
                *map.entry(key).or_default() += 1;
            }
        }
        let decided = &sample.decided;
        let broken = sample.broken.as_ref().map(|_| "body-broken".to_owned());
        count(&mut self.statuses, Some(sample.status.as_str().to_owned()));
        let backend = decided.backend.as_ref();
        count(&mut self.backends, backend.map(ToString::to_string));
        count(
            &mut self.endpoints,
            decided.endpoint.map(|at| at.to_string()),
        );
        let reason = sample.reason().map(str::to_owned);
        count(&mut self.errors, reason.or(broken));
        self.failed |= sample.failed();
        self.latencies.push(sample.latency);
    }

    fn and(mut self, other: Self) -> Self {
        for (mine, theirs) in [
            (&mut self.statuses, other.statuses),
            (&mut self.backends, other.backends),
            (&mut self.endpoints, other.endpoints),
            (&mut self.errors, other.errors),
        ] {
            for (key, count) in theirs {
                *mine.entry(key).or_default() += count;
            }
        }
        self.failed |= other.failed;
        self.latencies.extend(other.latencies);
        self
    }

    /// Whether any answer was no.
    pub(super) const fn failed(&self) -> bool {
        self.failed
    }

    /// Whether it was ended before all were sent.
    pub(super) const fn interrupted(&self) -> bool {
        self.interrupted
    }

    fn requests(&self) -> usize {
        self.latencies.len()
    }

    #[expect(clippy::cast_precision_loss, reason = "a million requests are exact")]
    fn rps(&self) -> f64 {
        let seconds = self.lasted.as_secs_f64().max(1e-9);
        (self.requests() as f64 / seconds * 10.0).round() / 10.0
    }

    /// The latency that `percent` of all requests did not exceed, in milliseconds.
    fn quantile(&self, percent: usize) -> f64 {
        let place = (self.requests() * percent).div_ceil(100).saturating_sub(1);
        let latency = self.latencies.get(place).copied().unwrap_or_default();
        (latency.as_secs_f64() * 1e6).round() / 1e3
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "requests": self.requests(),
            "statuses": self.statuses,
            "backends": self.backends,
            "endpoints": self.endpoints,
            "errors": self.errors,
            "rps": self.rps(),
            "p50_ms": self.quantile(50),
            "p99_ms": self.quantile(99),
        })
    }

    pub(super) fn to_text(&self) -> String {
        let list = |map: &BTreeMap<String, u64>| {
            let words: Vec<_> = map.iter().map(|(k, n)| format!("{k} {n}")).collect();
            match words.is_empty() {
                true => "-".to_owned(),
                false => words.join(", "),
            }
        };
        let lines = [
            ("requests", self.requests().to_string()),
            ("statuses", list(&self.statuses)),
            ("backends", list(&self.backends)),
            ("endpoints", list(&self.endpoints)),
            ("errors", list(&self.errors)),
            ("rps", self.rps().to_string()),
            ("p50", format!("{} ms", self.quantile(50))),
            ("p99", format!("{} ms", self.quantile(99))),
        ];
        let lines = lines.iter();
        lines
            .map(|(what, value)| format!("{what:<11}{value}\n"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_latencies() {
        let of = |count: u64| Summary {
            latencies: (1..=count).map(Duration::from_millis).collect(),
            ..Summary::default()
        };
        for (count, percent, expected) in [
            (100, 50, 50.0),
            (100, 99, 99.0),
            (1, 99, 1.0),
            (3, 50, 2.0),
            (0, 50, 0.0),
        ] {
            let found = of(count).quantile(percent);
            assert!(
                (found - expected).abs() < 1e-9,
                "{count} {percent}: {found}"
            );
        }
    }
}
