//! How services do: `GET /v1/stat`, from what processes reported.
//!
//! A service is judged by its callers, as Linkerd does: they see what never arrived.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use mesh_policy::identity::Identity;
use mesh_policy::name::ServiceName;
use mesh_policy::report::traffic::{Direction, Flow};

use crate::caller::Caller;
use crate::compile::World;
use crate::refused::Refused;
use crate::server::Shared;
use crate::statistics::LONGEST;
use crate::wire::{ServiceStat, Stat, StatQuery};

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
    let (covered, flows) = shared.statistics.within(window);
    let rows = rows(&shared.worlds.latest(), &flows, &query);
    Ok(Json(Stat {
        window_seconds: covered.as_secs(),
        services: rows,
    }))
}

/// One row for each service that the query names.
fn rows(world: &World, flows: &[(Identity, Flow)], query: &StatQuery) -> Vec<ServiceStat> {
    let in_namespace = |service: &ServiceName| {
        let namespace = query.namespace.as_ref();
        namespace.is_none_or(|namespace| service.namespace == *namespace)
    };
    let is_named = |service: &ServiceName| {
        let name = query.name.as_ref();
        name.is_none_or(|name| service.name == *name)
    };
    let mut services: BTreeSet<&ServiceName> = world.services().collect();
    services.retain(|service| in_namespace(service) && is_named(service));
    let from = query.from.as_ref().map(|from| serving(world, from));
    let row = |service| {
        row(
            world,
            service,
            &chosen(world, flows, (service, query), from.as_ref()),
        )
    };
    services.into_iter().map(row).collect()
}

/// The outbound flows that a service's row adds up.
fn chosen<'a>(
    world: &World,
    flows: &'a [(Identity, Flow)],
    (service, query): (&ServiceName, &StatQuery),
    from: Option<&BTreeSet<Identity>>,
) -> Vec<&'a Flow> {
    // With `to`, the row is the caller and the other the called.
    let own = query.to.as_ref().map(|_| serving(world, service));
    let called = query.to.as_ref().unwrap_or(service);
    let chosen = flows.iter().filter(|(reporter, flow)| {
        flow.key.direction == Direction::Outbound
            && flow.key.service.service == *called
            && from.is_none_or(|from| from.contains(reporter))
            && own.as_ref().is_none_or(|own| own.contains(reporter))
    });
    chosen.map(|(_, flow)| flow).collect()
}

/// Who serves a service now.
fn serving(world: &World, service: &ServiceName) -> BTreeSet<Identity> {
    let endpoints = world.endpoints_of(service);
    endpoints.filter_map(|endpoint| endpoint.identity).collect()
}

fn row(world: &World, service: &ServiceName, flows: &[&Flow]) -> ServiceStat {
    let endpoints: Vec<_> = world.endpoints_of(service).collect();
    let mut success = 0_u64;
    let mut failure = 0_u64;
    let mut latency = mesh_policy::report::latency::Latencies::default();
    for flow in flows {
        success = success.saturating_add(flow.success.count);
        failure = failure.saturating_add(flow.failure.count);
        latency.merge(&flow.success.latency);
        latency.merge(&flow.failure.latency);
    }
    let micros = |q| {
        let found = latency.quantile(q);
        found.map(|at| u64::try_from(at.as_micros()).unwrap_or(u64::MAX))
    };
    ServiceStat {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        endpoints: endpoints.len(),
        meshed: endpoints.iter().filter(|e| e.identity.is_some()).count(),
        success,
        failure,
        latency_us_p50: micros(0.5),
        latency_us_p95: micros(0.95),
        latency_us_p99: micros(0.99),
    }
}
