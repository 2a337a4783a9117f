//! Chooses the endpoint of a request: the less loaded of two drawn at random.
//!
//! Power of two choices over peak EWMA (Finagle's): close to the best choice
//! among all, without the herd that runs to whoever looked best a moment ago.
//! Tower's `Balance` is no base for it: with no endpoint it waits for ever, and an
//! endpoint that fails fast looks good to it.

use std::sync::Arc;
use std::task::{Context, Poll};

use mesh_policy::balance::{choose, two_of};
use mesh_policy::draw::Draw;
use mesh_policy::name::ServicePort;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use super::split::NotRouted;
use crate::BoxError;
use crate::answer::{Cause, Caused};
use crate::outbound::{Call, Outgoing};
use crate::plans::{Endpoint, InFlight};

/// Gives every request that has a backend an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BalanceLayer;

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Balance { inner }
    }
}

/// The service [`BalanceLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct Balance<S> {
    inner: S,
}

impl<S> Service<Box<Outgoing>> for Balance<S>
where
    S: Service<Box<Outgoing>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Gated<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut outgoing: Box<Outgoing>) -> Self::Future {
        match pick_for(&outgoing.call, Draw(fastrand::u64(..))) {
            Ok(endpoint) => {
                outgoing.call.set_endpoint(InFlight::at(endpoint));
                Gated::passed(self.inner.call(outgoing))
            }
            Err(error) => Gated::refused(error),
        }
    }
}

/// The endpoint of the chosen backend for this try.
fn pick_for(call: &Call, draw: Draw) -> Result<Arc<Endpoint>, BoxError> {
    let backend = call.backend().ok_or(NotRouted)?;
    let (endpoints, now) = (backend.endpoints(), call.tried_at());
    let picked = if call.is_again() {
        pick_another(&endpoints, call, draw, now)
    } else {
        pick(&endpoints, draw, now).map(Arc::clone)
    };
    picked.ok_or_else(|| {
        let backend = backend.port().clone();
        NoEndpoints { backend }.into()
    })
}

/// One that this request has not been to, if there is one.
fn pick_another(
    endpoints: &[Arc<Endpoint>],
    call: &Call,
    draw: Draw,
    now: Instant,
) -> Option<Arc<Endpoint>> {
    let fresh = endpoints
        .iter()
        .filter(|endpoint| !call.has_tried(endpoint.facts().address));
    let fresh: Vec<_> = fresh.map(Arc::clone).collect();
    let from = if fresh.is_empty() { endpoints } else { &fresh };
    pick(from, draw, now).map(Arc::clone)
}

/// The better of two; one that could not be reached a moment ago only if there is no other.
fn pick(endpoints: &[Arc<Endpoint>], draw: Draw, now: Instant) -> Option<&Arc<Endpoint>> {
    let Some((a, b)) = two_of(draw, endpoints.len()) else {
        return endpoints.first();
    };
    if a == b {
        return endpoints.get(a);
    }
    let (a, b) = (&endpoints[a], &endpoints[b]);
    match (a.is_passed_over(now), b.is_passed_over(now)) {
        (false, true) => Some(a),
        (true, false) => Some(b),
        (false, false) => Some(lighter(a, b, now)),
        (true, true) => {
            let others = endpoints.iter().filter(|e| !e.is_passed_over(now));
            // The lightest, since the first would get what all those passed over had.
            let lightest = others.min_by(|a, b| a.load(now).total_cmp(&b.load(now)));
            Some(lightest.unwrap_or_else(|| lighter(a, b, now)))
        }
    }
}

fn lighter<'a>(a: &'a Arc<Endpoint>, b: &'a Arc<Endpoint>, now: Instant) -> &'a Arc<Endpoint> {
    if choose(a.load(now), b.load(now)) {
        a
    } else {
        b
    }
}

/// The chosen backend has nobody to send to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "backend {backend} has no endpoint that takes traffic: start an instance of it, or give one a weight above 0"
)]
pub struct NoEndpoints {
    backend: ServicePort,
}

impl Caused for NoEndpoints {
    fn cause(&self) -> Cause {
        Cause::NoEndpoints
    }
}
