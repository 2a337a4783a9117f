//! Who serves a backend now: endpoints with what has been learnt of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_policy::balance::{FAILURE_PENALTY, PeakEwma};
use mesh_policy::name::ServicePort;
use mesh_policy::plan::endpoint::{Endpoint as Facts, EndpointSet};
use metrics::{Counter, Label};
use tokio::time::Instant;

use crate::telemetry::errors::{Errors, OUTBOUND_TCP};
use crate::telemetry::outbound::{Endpoint as Labels, EndpointMetrics};
use crate::telemetry::{Recorder, Workload};
use crate::transport::connect::{CurrentCredentials, Dialer};
use crate::transport::pool::{Pool, PoolLimits};

/// How long an endpoint that could not be reached is passed over while another can be.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// What every endpoint of this process is fitted out with.
#[derive(Clone, Debug)]
pub(crate) struct Outfit {
    pub(crate) credentials: CurrentCredentials,
    pub(crate) recorder: Recorder,
    pub(crate) workload: Arc<Workload>,
    /// Connections that could not be made.
    pub(crate) errors: Arc<Errors>,
    /// Requests that waited because their endpoint had as many connections as it may have.
    pub(crate) limited: Counter,
}

impl Outfit {
    pub(crate) fn new(
        credentials: CurrentCredentials,
        recorder: Recorder,
        workload: Arc<Workload>,
    ) -> Self {
        let errors = Errors::outbound(&recorder, &workload, OUTBOUND_TCP);
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("direction", "outbound"));
        let limited = recorder.counter("mesh_outbound_connections_limited_total", labels);
        Self {
            credentials,
            recorder,
            workload,
            errors: Arc::new(errors),
            limited,
        }
    }
}

/// One port of a service that rules send to.
#[derive(Debug)]
pub(crate) struct Backend {
    port: ServicePort,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
}

impl Backend {
    /// A backend of which no endpoint is known.
    pub(crate) fn new(port: ServicePort) -> Self {
        Self {
            port,
            endpoints: ArcSwap::default(),
        }
    }

    /// What it is called.
    pub(crate) fn port(&self) -> &ServicePort {
        &self.port
    }

    /// Those that take traffic.
    pub(crate) fn endpoints(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    #[cfg(test)]
    pub(crate) fn replace(&self, endpoints: Vec<Arc<Endpoint>>) {
        self.endpoints.store(Arc::new(endpoints));
    }

    /// Makes `set` the endpoints. Those that did not change keep their connections and
    /// what was learnt of them; those that left finish what they carry.
    pub(crate) fn update(&self, set: &EndpointSet, outfit: &Outfit) {
        let before = self.endpoints.load();
        let known: BTreeMap<&str, &Arc<Endpoint>> =
            before.iter().map(|e| (e.id.as_str(), e)).collect();
        let next = set.0.iter().filter(|(_, facts)| facts.weight > 0);
        let next = next.map(|(id, facts)| match known.get(id.as_str()) {
            Some(same) if same.facts == *facts => Arc::clone(same),
            Some(changed) if changed.is_reached_as(facts) => Arc::new(changed.with(facts.clone())),
            _ => Arc::new(self.place(id.clone(), facts.clone(), outfit)),
        });
        self.endpoints.store(Arc::new(next.collect()));
    }

    /// A new endpoint, with nothing learnt and no connection yet.
    fn place(&self, id: String, facts: Facts, outfit: &Outfit) -> Endpoint {
        let connections = labels(&facts, &self.port, &self.port);
        let dialer = Dialer::new(
            facts.address,
            facts.identity.clone(),
            facts.http,
            Arc::clone(&outfit.credentials),
        )
        .counted(
            connections.register_connections(&outfit.recorder, &outfit.workload),
            Arc::clone(&outfit.errors),
        );
        let pool = Pool::new(dialer, PoolLimits::default(), outfit.limited.clone());
        Endpoint::reached_by(id, facts, pool, outfit)
    }
}

/// The labels of an endpoint that serves `backend`, for a caller that named `authority`.
fn labels(facts: &Facts, authority: &ServicePort, backend: &ServicePort) -> Labels {
    Labels {
        authority: authority.clone(),
        backend: backend.clone(),
        address: facts.address,
        identity: facts.identity.clone(),
        workload: facts.workload.clone(),
        instance: facts.instance.clone(),
        zone: facts.zone.clone(),
    }
}

/// One address that serves a backend, and what has been learnt of it.
pub(crate) struct Endpoint {
    id: String,
    facts: Facts,
    learnt: Arc<Learnt>,
}

/// What outlives a change of weight or label.
struct Learnt {
    pool: Arc<Pool>,
    latency: Mutex<PeakEwma>,
    in_flight: AtomicU32,
    /// Until when it is passed over, in milliseconds since `born`.
    passed_over: AtomicU64,
    born: Instant,
    outfit: Outfit,
    /// The series by what the caller named, made at its first request.
    metrics: ArcSwap<Vec<(ServicePort, Arc<EndpointMetrics>)>>,
}

impl Endpoint {
    /// An endpoint with a pool of its own choice.
    pub(crate) fn reached_by(id: String, facts: Facts, pool: Arc<Pool>, outfit: &Outfit) -> Self {
        let born = Instant::now();
        let learnt = Learnt {
            pool,
            latency: Mutex::new(PeakEwma::new(born.into_std())),
            in_flight: AtomicU32::new(0),
            passed_over: AtomicU64::new(0),
            born,
            outfit: outfit.clone(),
            metrics: ArcSwap::default(),
        };
        Self {
            id,
            facts,
            learnt: Arc::new(learnt),
        }
    }

    /// The same endpoint with other words about it.
    fn with(&self, facts: Facts) -> Self {
        Self {
            id: self.id.clone(),
            facts,
            learnt: Arc::clone(&self.learnt),
        }
    }

    fn is_reached_as(&self, facts: &Facts) -> bool {
        // Labels of its series are part of what was learnt, so they may not change either.
        let weighed = Facts {
            weight: self.facts.weight,
            ..facts.clone()
        };
        weighed == self.facts
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.learnt.pool
    }

    /// How loaded it seems: the lower, the better.
    pub(crate) fn load(&self, now: Instant) -> f64 {
        let in_flight = self.learnt.in_flight.load(Ordering::Relaxed);
        let latency = self.learnt.latency.lock();
        let latency = latency.unwrap_or_else(PoisonError::into_inner);
        latency.load(now.into_std(), in_flight, self.facts.weight)
    }

    /// Whether it could not be reached a moment ago.
    pub(crate) fn is_passed_over(&self, now: Instant) -> bool {
        let until = self.learnt.passed_over.load(Ordering::Relaxed);
        until > 0 && millis(now - self.learnt.born) < until
    }

    /// It could not be reached at `now`.
    pub(crate) fn pass_over(&self, now: Instant) {
        let until = millis(now + PASSED_OVER - self.learnt.born);
        self.learnt.passed_over.store(until, Ordering::Relaxed);
    }

    /// It answered after `rtt`.
    pub(crate) fn observe(&self, now: Instant, rtt: Duration) {
        let latency = self.learnt.latency.lock();
        let mut latency = latency.unwrap_or_else(PoisonError::into_inner);
        latency.observe(now.into_std(), rtt);
    }

    /// Its caller gave up after `waited`.
    pub(crate) fn observe_unanswered(&self, now: Instant, waited: Duration) {
        let latency = self.learnt.latency.lock();
        let mut latency = latency.unwrap_or_else(PoisonError::into_inner);
        latency.observe_unanswered(now.into_std(), waited);
    }

    /// It failed.
    pub(crate) fn observe_failure(&self, now: Instant) {
        let latency = self.learnt.latency.lock();
        let mut latency = latency.unwrap_or_else(PoisonError::into_inner);
        latency.observe_failure(now.into_std(), FAILURE_PENALTY);
    }

    /// Its series for what the caller named, and for the backend that it serves.
    pub(crate) fn metrics(
        &self,
        authority: &ServicePort,
        backend: &ServicePort,
    ) -> Arc<EndpointMetrics> {
        let find = |known: &[(ServicePort, Arc<EndpointMetrics>)]| {
            let found = known.iter().find(|(name, _)| name == authority);
            found.map(|(_, metrics)| Arc::clone(metrics))
        };
        if let Some(metrics) = find(&self.learnt.metrics.load()) {
            return metrics;
        }
        let labels = labels(&self.facts, authority, backend);
        let outfit = &self.learnt.outfit;
        let metrics = labels.register(&outfit.recorder, &outfit.workload);
        self.learnt.metrics.rcu(|known| {
            let mut known = Vec::clone(known);
            if find(&known).is_none() {
                known.push((authority.clone(), Arc::clone(&metrics)));
            }
            known
        });
        find(&self.learnt.metrics.load()).unwrap_or(metrics)
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
        endpoint.learnt.in_flight.fetch_add(1, Ordering::Relaxed);
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
        self.0.learnt.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
