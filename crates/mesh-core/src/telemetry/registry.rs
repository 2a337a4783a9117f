//! All series of a process: who may have one, how long it stays, how it is shown.
//!
//! A series stays for as long as somebody holds its handle, and [`GRACE`] longer: Prometheus
//! sees the last value, and an endpoint that comes back goes on counting where it stopped.
//! Then it goes, and its place in the family is free. The registry knows who is held by the
//! count of the cell's owners, so that what somebody can still count into is never forgotten.
//!
//! A family that is full sends what is new to one series that keeps the labels with few
//! values, so that sums by them stay right, and counts what it turned away.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};
use tokio::time::Instant;

use super::bound::{self, MAX_HISTOGRAMS, MAX_SERIES};
use super::cells::{Cell, Count, Distribution, Level};
use super::families::{self, OVERFLOW};

/// How long a series stays after its last handle went: as long as Linkerd's.
pub(crate) const GRACE: Duration = Duration::from_secs(10 * 60);

/// Until when a series stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// [`GRACE`] longer than anybody holds its handle.
    WhileHeld,
    /// As long as the process: it is counted by whoever looks it up.
    ForEver,
}

/// All series of a process.
#[derive(Debug, Default)]
pub(super) struct Registry {
    counters: Families<Count>,
    gauges: Families<Level>,
    histograms: Families<Distribution>,
}

impl Registry {
    pub(super) fn counter(&self, name: &'static str, labels: &[Label], stay: Stay) -> Counter {
        let cell = self.counters.find(name, labels, stay, Count::default);
        Counter::from_arc(self.noted(name, cell))
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[Label], stay: Stay) -> Gauge {
        let cell = self.gauges.find(name, labels, stay, Level::default);
        Gauge::from_arc(self.noted(name, cell))
    }

    pub(super) fn histogram(&self, name: &'static str, labels: &[Label], stay: Stay) -> Histogram {
        let new = || Distribution::new(families::buckets(name));
        let cell = self.histograms.find(name, labels, stay, new);
        Histogram::from_arc(self.noted(name, cell))
    }

    /// Counts a series that was turned away.
    fn noted<C>(&self, name: &'static str, found: Found<C>) -> Arc<C> {
        match found {
            Found::Own(cell) => cell,
            Found::Overflow(cell) => {
                let family = [Label::from_static_parts("family", name)];
                self.counter(OVERFLOW, &family, Stay::ForEver).increment(1);
                cell
            }
        }
    }

    /// Lets go what nobody has held for long enough at `now`.
    pub(super) fn sweep(&self, now: Instant) {
        self.counters.sweep(now);
        self.gauges.sweep(now);
        self.histograms.sweep(now);
    }

    /// Everything in Prometheus' text format, in alphabetical order.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        self.counters.write(&mut out);
        self.gauges.write(&mut out);
        self.histograms.write(&mut out);
        out
    }
}

/// The families of one kind.
#[derive(Debug)]
struct Families<C>(Mutex<BTreeMap<&'static str, Family<C>>>);

/// Series by their labels, as they are shown.
type Family<C> = BTreeMap<Box<str>, Series<C>>;

#[derive(Debug)]
struct Series<C> {
    cell: Arc<C>,
    stay: Stay,
    /// Since when nobody was seen to hold it: only `find` ends that.
    unheld: Option<Instant>,
}

impl<C> Series<C> {
    fn is_held(&self) -> bool {
        // Ours is one; only `find`, which has the lock, makes further ones of it.
        self.stay == Stay::ForEver || Arc::strong_count(&self.cell) > 1
    }
}

enum Found<C> {
    /// The series that was asked for.
    Own(Arc<C>),
    /// That for all who found no room.
    Overflow(Arc<C>),
}

impl<C> Default for Families<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Cell> Families<C> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell of the series, made if need be and if there is room.
    fn find(
        &self,
        name: &'static str,
        labels: &[Label],
        stay: Stay,
        new: impl Fn() -> C,
    ) -> Found<C> {
        let own = bound::shown(labels);
        let mut families = self.lock();
        let family = families.entry(name).or_default();
        if family.len() < Self::most() || family.contains_key(own.as_str()) {
            return Found::Own(Self::enter(family, own, stay, new));
        }
        let mut shared = bound::shown(&bound::overflow(labels));
        if family.len() >= Self::most() + bound::MAX_OVERFLOWS && !family.contains_key(&*shared) {
            shared = bound::shown(&bound::overflow(&[]));
        }
        Found::Overflow(Self::enter(family, shared, stay, new))
    }

    fn enter(family: &mut Family<C>, labels: String, stay: Stay, new: impl Fn() -> C) -> Arc<C> {
        let series = family.entry(labels.into()).or_insert_with(|| Series {
            cell: Arc::new(new()),
            stay,
            unheld: None,
        });
        series.unheld = None;
        Arc::clone(&series.cell)
    }

    fn most() -> usize {
        if C::TYPE == Distribution::TYPE {
            MAX_HISTOGRAMS
        } else {
            MAX_SERIES
        }
    }

    fn sweep(&self, now: Instant) {
        for family in self.lock().values_mut() {
            family.retain(|_, series| {
                series.is_held() || now - *series.unheld.get_or_insert(now) < GRACE
            });
        }
    }

    /// Locked for one family at a time: a request may be waiting to register.
    fn write(&self, out: &mut String) {
        let names: Vec<&'static str> = self.lock().keys().copied().collect();
        for name in names {
            let families = self.lock();
            let Some(family) = families.get(name).filter(|family| !family.is_empty()) else {
                continue;
            };
            let help = families::help(name);
            let kind = C::TYPE;
            let head = match help {
                Some(help) => writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}"),
                None => writeln!(out, "# TYPE {name} {kind}"),
            };
            head.expect("writing to a string cannot fail");
            for (labels, series) in family {
                let written = series.cell.write(out, name, labels);
                written.expect("writing to a string cannot fail");
            }
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(endpoint: usize) -> Vec<Label> {
        vec![
            Label::new("direction", "outbound"),
            Label::new("target_addr", format!("10.0.0.1:{endpoint}")),
        ]
    }

    fn requests(registry: &Registry, endpoint: usize) -> Counter {
        registry.counter("request_total", &labels(endpoint), Stay::WhileHeld)
    }

    fn shown(registry: &Registry, name: &str) -> usize {
        let text = registry.render();
        let samples = text.lines().filter(|line| line.starts_with(name));
        samples.count()
    }

    /// Long enough for what nobody holds, with sweeps as often as they are made.
    async fn pass(registry: &Registry, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::advance(Duration::from_secs(5)).await;
            registry.sweep(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_series_outlives_its_last_handle_by_the_grace_and_no_more() {
        let registry = Registry::default();
        requests(&registry, 1).increment(7);
        pass(&registry, GRACE - Duration::from_secs(5)).await;
        assert!(registry.render().contains(r#"10.0.0.1:1"} 7"#));
        pass(&registry, Duration::from_secs(15)).await;
        assert_eq!(registry.render(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_within_the_grace_goes_on_counting() {
        let registry = Registry::default();
        requests(&registry, 1).increment(7);
        pass(&registry, GRACE - Duration::from_secs(10)).await;
        let again = requests(&registry, 1);
        pass(&registry, 3 * GRACE).await;
        again.increment(1);
        assert!(registry.render().contains(r#"10.0.0.1:1"} 8"#));
        drop(again);
        // The grace begins anew.
        pass(&registry, GRACE - Duration::from_secs(5)).await;
        assert_eq!(shown(&registry, "request_total"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_holds_is_never_forgotten() {
        let registry = Registry::default();
        let counter = requests(&registry, 1);
        let gauge = registry.gauge("tcp_open_connections", &labels(1), Stay::WhileHeld);
        let histogram = registry.histogram("response_latency_ms", &labels(1), Stay::WhileHeld);
        let (counter, other) = (counter.clone(), counter);
        drop(other);
        pass(&registry, 3 * GRACE).await;
        counter.increment(1);
        gauge.set(2.0);
        histogram.record(3.0);
        let text = registry.render();
        for line in [
            r#"request_total{direction="outbound",target_addr="10.0.0.1:1"} 1"#,
            r#"tcp_open_connections{direction="outbound",target_addr="10.0.0.1:1"} 2"#,
            r#"response_latency_ms_sum{direction="outbound",target_addr="10.0.0.1:1"} 3"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn o11_ten_thousand_endpoints_that_come_and_go_leave_nothing_behind() {
        let registry = Registry::default();
        let staying = requests(&registry, 0);
        let mut most = 0;
        for endpoint in 1..=10_000 {
            let (counter, histogram) = (
                requests(&registry, endpoint),
                registry.histogram("response_latency_ms", &labels(endpoint), Stay::WhileHeld),
            );
            counter.increment(1);
            staying.increment(1);
            histogram.record(1.0);
            drop((counter, histogram));
            pass(&registry, Duration::from_secs(5)).await;
            if endpoint % 100 == 0 {
                most = most.max(shown(&registry, "request_total"));
            }
        }
        // One endpoint in five seconds, each for the grace and a sweep.
        assert!(most <= 125, "{most} series");
        pass(&registry, GRACE + Duration::from_secs(5)).await;
        let text = registry.render();
        assert!(text.contains(r#"10.0.0.1:0"} 10000"#), "{text}");
        assert_eq!(shown(&registry, "request_total"), 1);
        assert_eq!(shown(&registry, "response_latency_ms"), 0);
        assert_eq!(shown(&registry, OVERFLOW), 0, "nothing was turned away");
    }

    #[tokio::test(start_paused = true)]
    async fn what_went_makes_room_in_a_family_that_was_full() {
        let registry = Registry::default();
        for endpoint in 0..MAX_SERIES {
            requests(&registry, endpoint).increment(1);
        }
        let late = requests(&registry, MAX_SERIES);
        late.increment(5);
        let shared = r#"request_total{direction="outbound",overflow="true"} 5"#;
        assert!(registry.render().contains(shared));
        pass(&registry, GRACE + Duration::from_secs(10)).await;
        assert_eq!(shown(&registry, "request_total"), 1);
        requests(&registry, MAX_SERIES + 1).increment(1);
        assert_eq!(shown(&registry, "request_total"), 2);
        // Sums stay right: it is held, and counts where it began.
        late.increment(1);
        assert!(registry.render().contains(r#"overflow="true"} 6"#));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_looked_up_each_time_stays() {
        let registry = Registry::default();
        let start = registry.gauge("process_start_time_seconds", &[], Stay::ForEver);
        start.set(7.0);
        drop(start);
        pass(&registry, 3 * GRACE).await;
        assert!(registry.render().contains("process_start_time_seconds 7"));
    }

    #[test]
    fn labels_of_an_overflow_that_are_not_few_after_all_are_left_out() {
        let registry = Registry::default();
        for number in 0..MAX_SERIES + 1_000 {
            let peer = vec![Label::new("peer", number.to_string())];
            registry
                .counter("request_total", &peer, Stay::WhileHeld)
                .increment(1);
        }
        let series = MAX_SERIES + bound::MAX_OVERFLOWS + 1;
        assert_eq!(shown(&registry, "request_total"), series);
    }
}
