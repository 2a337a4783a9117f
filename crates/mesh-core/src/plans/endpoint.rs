//! One address that serves a backend, and what has been learnt of it.
//!
//! A process knows many more endpoints than it calls: one that was never chosen costs little
//! more than what discovery told of it. Its pool, its series and the rest are made at its
//! first request.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_policy::balance::{FAILURE_PENALTY, PeakEwma};
use mesh_policy::name::ServicePort;
use mesh_policy::plan::endpoint::Endpoint as Facts;
use tokio::time::Instant;

use super::Outfit;
use crate::telemetry::outbound::{Endpoint as Labels, EndpointMetrics};
use crate::transport::connect::Dialer;
use crate::transport::pool::{Pool, PoolLimits};

/// How long an endpoint that could not be reached is passed over while another can be.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// One address that serves a backend.
pub(crate) struct Endpoint {
    id: Arc<str>,
    facts: Arc<Facts>,
    origin: Arc<Origin>,
    /// When discovery first told of it.
    born: Instant,
    /// Made at the first request; outlives a change of weight.
    used: OnceLock<Arc<Used>>,
}

/// What all endpoints of a backend have in common.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(super) port: ServicePort,
    pub(super) outfit: Outfit,
}

/// What an endpoint has once it is called.
struct Used {
    pool: Arc<Pool>,
    latency: Mutex<PeakEwma>,
    in_flight: AtomicU32,
    /// Until when it is passed over, in milliseconds since it was born.
    passed_over: AtomicU64,
    /// The series by what the caller named, made at its first request.
    metrics: ArcSwap<Vec<(ServicePort, Arc<EndpointMetrics>)>>,
}

impl Endpoint {
    /// An endpoint with nothing learnt and no connection yet.
    pub(super) fn new(id: &Arc<str>, facts: &Arc<Facts>, origin: &Arc<Origin>) -> Self {
        Self {
            id: Arc::clone(id),
            facts: Arc::clone(facts),
            origin: Arc::clone(origin),
            born: Instant::now(),
            used: OnceLock::new(),
        }
    }

    /// The same with a pool of its own choice.
    #[cfg(test)]
    pub(crate) fn reached_by(
        id: &str,
        facts: Facts,
        origin: &Arc<Origin>,
        pool: Arc<Pool>,
    ) -> Self {
        let endpoint = Self::new(&id.into(), &Arc::new(facts), origin);
        let used = Arc::new(Used::new(pool, endpoint.born));
        Self {
            used: OnceLock::from(used),
            ..endpoint
        }
    }

    /// The same endpoint with another weight.
    ///
    /// A first request that is on its way to `self` at this moment opens a connection for itself.
    pub(super) fn with(&self, facts: &Arc<Facts>) -> Self {
        Self {
            id: Arc::clone(&self.id),
            facts: Arc::clone(facts),
            origin: Arc::clone(&self.origin),
            born: self.born,
            used: self.used.clone(),
        }
    }

    /// Whether discovery says nothing new.
    pub(super) fn is_told_as(&self, facts: &Arc<Facts>) -> bool {
        Arc::ptr_eq(&self.facts, facts) || self.facts == *facts
    }

    /// Whether nothing but its weight is new.
    pub(super) fn is_reached_as(&self, facts: &Facts) -> bool {
        // Labels of its series are part of what was learnt, so they may not change either.
        let weighed = Facts {
            weight: self.facts.weight,
            ..facts.clone()
        };
        weighed == *self.facts
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.used().pool
    }

    fn used(&self) -> &Used {
        self.used.get_or_init(|| {
            let outfit = &self.origin.outfit;
            let backend = &self.origin.port;
            let connections = self.labels(backend);
            let connections = connections.register_connections(&outfit.recorder, &outfit.workload);
            let dialer = Dialer::new(
                self.facts.address,
                self.facts.identity.clone(),
                self.facts.http,
                Arc::clone(&outfit.credentials),
            )
            .counted(connections, Arc::clone(&outfit.errors));
            let pool = Pool::new(dialer, PoolLimits::default(), outfit.limited.clone());
            Arc::new(Used::new(pool, self.born))
        })
    }

    /// How loaded it seems: the lower, the better.
    pub(crate) fn load(&self, now: Instant) -> f64 {
        let (now, weight) = (now.into_std(), self.facts.weight);
        match self.used.get() {
            Some(used) => {
                let in_flight = used.in_flight.load(Ordering::Relaxed);
                used.latency().load(now, in_flight, weight)
            }
            None => PeakEwma::new(self.born.into_std()).load(now, 0, weight),
        }
    }

    /// Whether it could not be reached a moment ago.
    pub(crate) fn is_passed_over(&self, now: Instant) -> bool {
        self.used.get().is_some_and(|used| {
            let until = used.passed_over.load(Ordering::Relaxed);
            until > 0 && millis(now - self.born) < until
        })
    }

    /// It could not be reached at `now`.
    pub(crate) fn pass_over(&self, now: Instant) {
        let until = millis(now + PASSED_OVER - self.born);
        self.used().passed_over.store(until, Ordering::Relaxed);
    }

    /// It answered after `rtt`.
    pub(crate) fn observe(&self, now: Instant, rtt: Duration) {
        self.used().latency().observe(now.into_std(), rtt);
    }

    /// Its caller gave up after `waited`.
    pub(crate) fn observe_unanswered(&self, now: Instant, waited: Duration) {
        let mut latency = self.used().latency();
        latency.observe_unanswered(now.into_std(), waited);
    }

    /// It failed.
    pub(crate) fn observe_failure(&self, now: Instant) {
        let mut latency = self.used().latency();
        latency.observe_failure(now.into_std(), FAILURE_PENALTY);
    }

    /// Its series for what the caller named.
    pub(crate) fn metrics(&self, authority: &ServicePort) -> Arc<EndpointMetrics> {
        let find = |known: &[(ServicePort, Arc<EndpointMetrics>)]| {
            let found = known.iter().find(|(name, _)| name == authority);
            found.map(|(_, metrics)| Arc::clone(metrics))
        };
        let series = &self.used().metrics;
        if let Some(metrics) = find(&series.load()) {
            return metrics;
        }
        let outfit = &self.origin.outfit;
        let labels = self.labels(authority);
        let metrics = labels.register(&outfit.recorder, &outfit.workload);
        series.rcu(|known| {
            let mut known = Vec::clone(known);
            if find(&known).is_none() {
                known.push((authority.clone(), Arc::clone(&metrics)));
            }
            known
        });
        find(&series.load()).unwrap_or(metrics)
    }

    /// Its labels for a caller that named `authority`.
    fn labels(&self, authority: &ServicePort) -> Labels {
        let facts = &self.facts;
        Labels {
            authority: authority.clone(),
            backend: self.origin.port.clone(),
            address: facts.address,
            identity: facts.identity.clone(),
            workload: facts.workload.clone(),
            instance: facts.instance.clone(),
            zone: facts.zone.clone(),
        }
    }
}

impl Used {
    fn new(pool: Arc<Pool>, born: Instant) -> Self {
        Self {
            pool,
            latency: Mutex::new(PeakEwma::new(born.into_std())),
            in_flight: AtomicU32::new(0),
            passed_over: AtomicU64::new(0),
            metrics: ArcSwap::default(),
        }
    }

    fn latency(&self) -> MutexGuard<'_, PeakEwma> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("address", &self.facts.address)
            .finish_non_exhaustive()
    }
}

/// One request on its way at an endpoint, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// Counts a request.
    pub(crate) fn at(endpoint: Arc<Endpoint>) -> Self {
        endpoint.used().in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Clone for InFlight {
    /// Another request, as extensions demand: each is counted for as long as it lives.
    fn clone(&self) -> Self {
        Self::at(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.used().in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::plan::endpoint::{EndpointSet, HttpVersions};

    use super::*;
    use crate::plans::Backend;
    use crate::telemetry::{Metrics, Recorder, Workload};

    fn world() -> (Recorder, Backend) {
        let recorder = Recorder::new(Metrics::Own).unwrap();
        let workload = Workload {
            namespace: "shop".into(),
            deployment: "web".into(),
            pod: "web-1".into(),
        };
        let outfit = Outfit::new(Arc::default(), recorder.clone(), Arc::new(workload));
        (
            recorder,
            Backend::new("big.shop:80".parse().unwrap(), &outfit),
        )
    }

    fn set(count: u16) -> EndpointSet {
        let endpoints = (0..count).map(|number| {
            let [high, low] = number.to_be_bytes();
            let facts = Facts {
                address: ([10, 0, high, low], 80).into(),
                identity: None,
                http: HttpVersions::Both,
                weight: 100,
                workload: "big".into(),
                instance: format!("big-{number}"),
                zone: None,
            };
            (facts.instance.clone(), facts)
        });
        endpoints.collect()
    }

    #[test]
    fn o11_endpoints_that_are_never_called_have_no_series_and_take_none_from_those_that_are() {
        let (recorder, backend) = world();
        let before = recorder.render();
        backend.update(&set(3_000));
        let now = Instant::now();
        for endpoint in backend.endpoints().iter() {
            assert!(endpoint.load(now) > 0.0 && !endpoint.is_passed_over(now));
        }
        assert_eq!(recorder.render(), before);
        let called = Arc::clone(&backend.endpoints()[2_999]);
        drop(InFlight::at(called));
        let shown = recorder.render();
        assert_eq!(shown.matches("\ntcp_open_total{").count(), 1, "{shown}");
        assert!(!shown.contains("mesh_metrics_overflow_total{"), "{shown}");
    }

    #[test]
    fn an_endpoint_that_was_never_called_costs_little_more_than_what_was_told_of_it() {
        // Beside the facts, which are shared with the set that discovery told.
        assert!(size_of::<Endpoint>() <= 80, "{}", size_of::<Endpoint>());
        let (_, backend) = world();
        let set = set(100);
        backend.update(&set);
        for (endpoint, (id, facts)) in backend.endpoints().iter().zip(&set.0) {
            assert!(endpoint.used.get().is_none());
            assert!(Arc::ptr_eq(&endpoint.facts, facts) && Arc::ptr_eq(&endpoint.id, id));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_was_never_called_looks_as_it_did_when_it_had_state() {
        let (_, backend) = world();
        backend.update(&set(2));
        let (called, other) = {
            let endpoints = backend.endpoints();
            (Arc::clone(&endpoints[0]), Arc::clone(&endpoints[1]))
        };
        drop(InFlight::at(Arc::clone(&called)));
        for _ in 0..10 {
            let now = Instant::now();
            assert!((called.load(now) - other.load(now)).abs() < 1.0);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
