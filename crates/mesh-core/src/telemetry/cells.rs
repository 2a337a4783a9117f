//! What one series counts into.
//!
//! A handle and the registry share a cell; nothing else does, so that the registry can tell
//! whether anybody can still count into it. Counting is one atomic addition (two for a
//! histogram), with no clock and no allocation.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{CounterFn, GaugeFn, HistogramFn};

/// Parts into which a histogram divides its unit when it adds up: microseconds, for one in
/// milliseconds. An integer is added to at once, a float only after reading it.
const PARTS: f64 = 1_000.0;

/// Something that can be shown in Prometheus' text format.
pub(super) trait Cell {
    /// The word for it in a `TYPE` line.
    const TYPE: &'static str;

    /// Writes the samples of the series `name` with `labels`, which are escaped.
    fn write(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result;
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl Cell for Count {
    const TYPE: &'static str = "counter";

    fn write(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result {
        sample(out, name, labels, self.0.load(Ordering::Relaxed))
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(super) struct Level(AtomicU64);

impl Level {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let change = |bits| Some(change(f64::from_bits(bits)).to_bits());
        let changed = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        debug_assert!(changed.is_ok(), "the change is always made");
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        self.change(|now| now + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|now| now - value);
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl Cell for Level {
    const TYPE: &'static str = "gauge";

    fn write(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        sample(out, name, labels, value)
    }
}

/// How many values fell into which bucket, and their sum.
#[derive(Debug)]
pub(super) struct Distribution {
    /// The upper ends of all buckets but the last, which has none.
    bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    /// In thousandths of the unit.
    sum: AtomicU64,
}

impl Distribution {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }
}

impl HistogramFn for Distribution {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates: times are neither negative nor beyond centuries"
        )]
        let parts = (value * PARTS).round() as u64;
        self.sum.fetch_add(parts, Ordering::Relaxed);
    }
}

impl Cell for Distribution {
    const TYPE: &'static str = "histogram";

    fn write(&self, out: &mut String, name: &str, labels: &str) -> fmt::Result {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (place, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Ordering::Relaxed);
            write!(out, "{name}_bucket{{{labels}{comma}le=\"")?;
            match self.bounds.get(place) {
                Some(bound) => write!(out, "{bound}")?,
                None => out.push_str("+Inf"),
            }
            writeln!(out, "\"}} {sum}")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "it is shown, not counted with")]
        let total = self.sum.load(Ordering::Relaxed) as f64 / PARTS;
        sample(out, &format!("{name}_sum"), labels, total)?;
        sample(out, &format!("{name}_count"), labels, sum)
    }
}

fn sample(out: &mut String, name: &str, labels: &str, value: impl fmt::Display) -> fmt::Result {
    if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cell: &impl Cell) -> String {
        let mut out = String::new();
        cell.write(&mut out, "n", "a=\"b\"").unwrap();
        out
    }

    #[test]
    fn a_value_falls_into_the_first_bucket_that_is_not_below_it() {
        let latency = Distribution::new(&[1.0, 2.5]);
        for value in [0.0, 1.0, 1.001, 2.5, 2.6, 9_000.0] {
            latency.record(value);
        }
        let lines = "n_bucket{a=\"b\",le=\"1\"} 2\n\
                     n_bucket{a=\"b\",le=\"2.5\"} 4\n\
                     n_bucket{a=\"b\",le=\"+Inf\"} 6\n\
                     n_sum{a=\"b\"} 9007.101\n\
                     n_count{a=\"b\"} 6\n";
        assert_eq!(shown(&latency), lines);
    }

    #[test]
    fn nonsense_is_counted_and_adds_nothing() {
        let latency = Distribution::new(&[1.0]);
        latency.record(f64::NAN);
        latency.record(-3.0);
        assert!(shown(&latency).ends_with("n_sum{a=\"b\"} 0\nn_count{a=\"b\"} 2\n"));
    }

    #[test]
    fn a_counter_never_goes_back_and_a_gauge_does() {
        let count = Count::default();
        count.increment(3);
        count.absolute(2);
        assert_eq!(shown(&count), "n{a=\"b\"} 3\n");
        let level = Level::default();
        level.increment(2.0);
        level.decrement(3.5);
        assert_eq!(shown(&level), "n{a=\"b\"} -1.5\n");
    }
}
