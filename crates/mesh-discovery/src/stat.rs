//! How services do: `GET /v1/stat`, from what processes reported.
//!
//! A service is judged by its callers, as Linkerd does: they see what never arrived. Only what
//! callers report that policy lets in was kept, and each sum keeps its reporter. A backend that
//! nobody calls by its own name is judged by those who serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::report::traffic::{Direction, FlowKey};

use crate::caller::Caller;
use crate::compile::{Admission, World};
use crate::refused::Refused;
use crate::server::Shared;
use crate::statistics::{LONGEST, Statistics, Sum};
use crate::wire::{CallerStat, CountedBy, ServiceStat, Stat, StatQuery, StatSource};

/// Callers of one row that are named.
const MAX_CALLERS: usize = 100;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/stat", get(stat))
}

async fn stat(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<StatQuery>,
) -> Result<Json<Stat>, Refused> {
    caller.require_admin()?;
    let window = Duration::from_secs(query.window_seconds);
    if window.is_zero() || window > LONGEST {
        let most = LONGEST.as_secs();
        let message = format!("the window is 1 to {most} seconds: older reports are not kept");
        return Err(Refused::bad_request(message));
    }
    // Adding up takes a while where much was reported, and must not keep a runtime's thread.
    let sums = tokio::task::spawn_blocking(move || {
        let world = shared.worlds.latest();
        rows(&world, (&shared.statistics, &shared.domain), &query)
    });
    let services = sums.await.map_err(|error| {
        tracing::error!(%error, "statistics could not be added up");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Refused::new(status, "internal", "statistics could not be added up")
    })?;
    Ok(Json(Stat {
        window_seconds: window.as_secs(),
        services,
    }))
}

/// One row for each service that the query names.
fn rows(
    world: &World,
    (statistics, domain): (&Statistics, &TrustDomain),
    query: &StatQuery,
) -> Vec<ServiceStat> {
    let is_named = |service: &&ServiceName| {
        let (namespace, name) = (query.namespace.as_ref(), query.name.as_ref());
        namespace.is_none_or(|namespace| service.namespace == *namespace)
            && name.is_none_or(|name| service.name == *name)
    };
    let services: BTreeSet<_> = world.services().filter(is_named).collect();
    let mut rows: Vec<_> = services
        .into_iter()
        .map(|service| Row::new(world, service, query))
        .collect();
    let from = query.from.as_ref().map(|from| match from {
        StatSource::Service(service) => serving(world, service),
        StatSource::Account { namespace, account } => {
            [Identity::for_workload(domain, namespace, account)].into()
        }
        StatSource::Identity(identity) => [identity.clone()].into(),
    });
    let by_called = index(&rows, |row| [row.called.clone()]);
    let by_behind = index(&rows, |row| row.behind.clone());
    let of = |key: &FlowKey| match key.direction {
        Direction::Outbound => by_called.get(&key.service.service),
        Direction::Inbound => by_behind.get(&key.service),
    };
    let window = Duration::from_secs(query.window_seconds);
    let wanted = |key: &FlowKey| of(key).is_some();
    statistics.within(window, wanted, |reporter, key, sum| {
        let sender = match key.direction {
            Direction::Outbound => Some(reporter),
            Direction::Inbound => key.peer.as_ref(),
        };
        let is_from = |from: &BTreeSet<_>| sender.is_some_and(|sender| from.contains(sender));
        if !from.as_ref().is_none_or(is_from) {
            return;
        }
        for &row in of(key).into_iter().flatten() {
            match key.direction {
                Direction::Outbound => rows[row].sent(reporter, &sum),
                Direction::Inbound => rows[row].received(world, key, &sum),
            }
        }
    });
    rows.into_iter().map(|row| row.finish(world)).collect()
}

/// Which rows each key is about.
fn index<K: Ord, I: IntoIterator<Item = K>>(
    rows: &[Row],
    keys: impl Fn(&Row) -> I,
) -> BTreeMap<K, Vec<usize>> {
    let mut index: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        for key in keys(row) {
            index.entry(key).or_default().push(number);
        }
    }
    index
}

/// Who serves a service now.
fn serving(world: &World, service: &ServiceName) -> BTreeSet<Identity> {
    let endpoints = world.endpoints_of(service);
    endpoints.filter_map(|endpoint| endpoint.identity).collect()
}

/// One service, as its sums are made.
struct Row {
    service: ServiceName,
    /// The service that is called: another one where the row is of its callers.
    called: ServiceName,
    /// Where calls of it end.
    behind: BTreeSet<ServicePort>,
    /// With `to`, the row is the caller: who serves it.
    senders: Option<BTreeSet<Identity>>,
    /// What each caller reported.
    callers: BTreeMap<Identity, Sum>,
    /// What those who serve it reported.
    servers: Sum,
    /// Requests that the called side counted, by caller.
    counted: BTreeMap<Option<Identity>, u64>,
}

impl Row {
    fn new(world: &World, service: &ServiceName, query: &StatQuery) -> Self {
        let called = query.to.as_ref().unwrap_or(service);
        Self {
            service: service.clone(),
            called: called.clone(),
            behind: world.behind(called),
            senders: query.to.as_ref().map(|_| serving(world, service)),
            callers: BTreeMap::new(),
            servers: Sum::default(),
            counted: BTreeMap::new(),
        }
    }

    fn sent(&mut self, reporter: &Identity, sum: &Sum) {
        let senders = self.senders.as_ref();
        if senders.is_none_or(|senders| senders.contains(reporter)) {
            self.callers.entry(reporter.clone()).or_default().merge(sum);
        }
    }

    fn received(&mut self, world: &World, key: &FlowKey, sum: &Sum) {
        let counted = self.counted.entry(key.peer.clone()).or_default();
        *counted = counted.saturating_add(sum.requests());
        // What was refused says nothing of how the service does.
        let let_in = world.admits(&key.service, key.peer.as_ref()) != Admission::Refused;
        if key.service.service == self.service && let_in {
            self.servers.merge(sum);
        }
    }

    fn finish(self, world: &World) -> ServiceStat {
        let mut sum = Sum::default();
        self.callers.values().for_each(|caller| sum.merge(caller));
        let mut counted_by = (sum.requests() > 0).then_some(CountedBy::Callers);
        let is_called = self.senders.is_none();
        if counted_by.is_none() && is_called && self.servers.requests() > 0 {
            counted_by = Some(CountedBy::Servers);
            sum = self.servers.clone();
        }
        let micros = |q| {
            let found = sum.latency.quantile(q).filter(|_| counted_by.is_some());
            found.map(|at| u64::try_from(at.as_micros()).unwrap_or(u64::MAX))
        };
        let own = if is_called {
            self.behind.clone()
        } else {
            world.behind(&self.service)
        };
        let sets = own.iter().map(|port| world.endpoints(port));
        let (mut endpoints, mut meshed) = (0, 0);
        for set in sets {
            endpoints += set.0.len();
            meshed += set.0.values().filter(|e| e.identity.is_some()).count();
        }
        ServiceStat {
            counted_by,
            endpoints,
            meshed,
            success: sum.success,
            failure: sum.failure,
            latency_us_p50: micros(0.5),
            latency_us_p95: micros(0.95),
            latency_us_p99: micros(0.99),
            callers: self.callers(),
            namespace: self.service.namespace,
            name: self.service.name,
        }
    }

    /// The callers, those with the most requests first.
    fn callers(&self) -> Vec<CallerStat> {
        // Peers beyond what a process tells apart are counted together: they may be anybody's.
        let together = self.counted.get(&None).copied().unwrap_or_default();
        let of = |caller: &Identity| {
            let own = self.counted.get(&Some(caller.clone())).copied();
            own.unwrap_or_default().saturating_add(together)
        };
        let caller = |(identity, sum): (&Identity, &Sum)| CallerStat {
            identity: identity.clone(),
            success: sum.success,
            failure: sum.failure,
            received: (!self.counted.is_empty()).then(|| of(identity)),
        };
        let mut callers: Vec<_> = self.callers.iter().map(caller).collect();
        callers.retain(|caller| caller.success > 0 || caller.failure > 0);
        let requests = |caller: &CallerStat| caller.success.saturating_add(caller.failure);
        callers.sort_by_key(|caller| std::cmp::Reverse(requests(caller)));
        callers.truncate(MAX_CALLERS);
        callers
    }
}
