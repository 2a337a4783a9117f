//! Sends a request to its endpoint, and watches what comes back.
//!
//! Only here are address and expected identity known, so metrics are counted here,
//! once per attempt, and here the request gets the form that its connection wants.

mod delivery;
mod pace;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use mesh_policy::classify::{Classification, classify};
use tokio::time::Instant;
use tower_service::Service;

pub(crate) use delivery::Delivery;
use delivery::{Kept, deliver};
use pace::Pace;

use super::retry::Unsent;
use super::split::NotRouted;
use crate::answer::{Cause, Caused, Protocol};
use crate::outbound::{Outgoing, form};
use crate::plans::Endpoint as Place;
use crate::telemetry::Observation;
use crate::telemetry::errors::ended_by;
use crate::transport::pool::Held;
use crate::{Body, BoxError, header_list};

/// How often a request goes to another connection of its endpoint because the one it
/// was handed to closed before a byte of it was sent.
const MAX_UNSENT: usize = 3;
/// Answered when a client sends too much: as good as a failure to whoever balances.
const TOO_MANY_REQUESTS: u16 = 429;
/// The same in gRPC's codes.
const RESOURCE_EXHAUSTED: u16 = 8;

/// Sends requests to the endpoints that were chosen for them. The end of the stack.
///
/// It is always ready: nothing is reserved before the endpoint is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Endpoint;

impl Service<Box<Outgoing>> for Endpoint {
    type Response = Response<Body>;
    type Error = BoxError;
    /// The one box of the stack: here a connection may have to be awaited.
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Box<Outgoing>) -> Self::Future {
        Box::pin(send(outgoing))
    }
}

/// The future of every request that is under way: what is kept across its waits is kept once.
async fn send(mut outgoing: Box<Outgoing>) -> Result<Response<Body>, BoxError> {
    let Outgoing { request, call } = &mut *outgoing;
    let in_flight = call.chosen().ok_or(NotRouted)?;
    let endpoint = in_flight.endpoint();
    let now = call.tried_at();
    let mut pace = Pace::start(call, now).map(Box::new);
    let own = pace.as_ref().and_then(|pace| pace.headers_by());
    let until = [own, call.deadline()].into_iter().flatten().min();
    form::shape(request, until.map(|until| until - now), endpoint)?;
    let protocol = call.protocol();
    let metrics = endpoint.metrics(&call.port().address);
    let mut observation = Observation::start_at(now, metrics, protocol);
    if let Some(route) = call.route_metrics() {
        observation = observation.and(Arc::clone(&route.tried));
    }
    let mut watch = Watch {
        endpoint: Arc::clone(endpoint),
        started: now,
        deadline: call.deadline(),
        observation: Some(observation),
    };
    if let Some(pace) = &pace {
        pace.watch(request.body_mut());
    }
    let mut exchange = pin!(exchange(endpoint, request));
    // What is done at the moment at which a limit passes counts.
    let exchanged = poll_fn(|cx| match (exchange.as_mut().poll(cx), &mut pace) {
        (Poll::Pending, Some(pace)) => pace.poll(cx).map(|passed| Err(passed.into())),
        (polled, _) => polled,
    });
    match exchanged.await {
        Ok((response, held)) => {
            call.carried();
            if let Err(error) = header_list::check_response(&response) {
                // What holds its stream goes with it, unread.
                let error = error.into();
                watch.failed(&error);
                return Err(error);
            }
            if let Some(pace) = &mut pace {
                pace.answered();
            }
            let observation = watch.answered(&response, protocol);
            let observation = observation.expect("an outcome is told once");
            let kept = Kept {
                held,
                in_flight: in_flight.clone(),
                pace,
                protocol,
            };
            Ok(deliver(response, observation, kept))
        }
        Err(error) => {
            watch.failed(&error);
            Err(error)
        }
    }
}

/// Sends the request on a connection that takes it.
async fn exchange(
    endpoint: &Place,
    request: &mut Request<Body>,
) -> Result<(Response<Incoming>, Held), BoxError> {
    let mut unsent = 0;
    loop {
        let lease = match endpoint.pool().ready() {
            Some(lease) => lease,
            // In a box: it is rare, and every request would be as large as it is.
            None => match Box::pin(endpoint.pool().lease()).await {
                Ok(lease) => lease,
                Err(error) => return Err(Unsent::new(std::mem::take(request), error).into()),
            },
        };
        let mut failed = match lease.send(std::mem::take(request)).await {
            Ok(answered) => return Ok(answered),
            Err(failed) => failed,
        };
        unsent += 1;
        match failed.take_message() {
            Some(back) if unsent < MAX_UNSENT => *request = back,
            back => {
                let address = endpoint.facts().address;
                let source = failed.into_error();
                if is_ours(&source) {
                    return Err(RequestBroke { source }.into());
                }
                if is_unreadable(&source) {
                    return Err(InvalidResponse { address, source }.into());
                }
                let broke = ConnectionBroke { address, source };
                return Err(match back {
                    Some(back) => Unsent::new(back, broke).into(),
                    None => broke.into(),
                });
            }
        }
    }
}

/// Whether it was the request's own body that failed: then hyper ends the stream itself.
fn is_ours(error: &hyper::Error) -> bool {
    let mut link: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = link {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_reset() && !error.is_remote() && !error.is_library();
        }
        link = error.source();
    }
    error.is_user()
}

/// Whether a response is a failure to the balancer.
fn is_failure(status: u16, grpc: Option<u16>) -> bool {
    let refused = status == TOO_MANY_REQUESTS || grpc == Some(RESOURCE_EXHAUSTED);
    refused || classify(status, grpc) == Classification::Failure
}

/// Whether it was our own parser that gave a response up: what it is of the stream alone in HTTP/2.
fn is_unreadable(error: &hyper::Error) -> bool {
    let mut link: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = link {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_reset() && error.is_library();
        }
        link = error.source();
    }
    error.is_parse()
}

/// Tells the balancer how an endpoint did. An attempt that is given up counts as one that took
/// at least as long, and as a failure once its time is over: a silent endpoint must not look idle.
struct Watch {
    endpoint: Arc<Place>,
    started: Instant,
    deadline: Option<Instant>,
    /// Taken once the outcome is known.
    observation: Option<Observation>,
}

impl Watch {
    fn answered(
        &mut self,
        response: &Response<Incoming>,
        protocol: Protocol,
    ) -> Option<Observation> {
        let status = response.status().as_u16();
        let grpc = match protocol {
            Protocol::Http => None,
            Protocol::Grpc => grpc_status(response.headers()),
        };
        let now = Instant::now();
        if is_failure(status, grpc) {
            self.endpoint.observe_failure(now);
        } else {
            self.endpoint.observe(now, now - self.started);
        }
        self.observation.take()
    }

    fn failed(&mut self, error: &BoxError) {
        let observation = self.observation.take();
        let now = Instant::now();
        if error.is::<RequestBroke>() {
            // The endpoint could not help it, but until then it had not answered.
            self.endpoint.observe_unanswered(now, now - self.started);
            return;
        }
        if let Some(observation) = observation {
            observation.fail(ended_by(error.as_ref()));
        }
        self.endpoint.observe_failure(now);
        let unsent = error.downcast_ref::<Unsent>();
        if unsent.is_some_and(Unsent::is_unreachable) {
            self.endpoint.pass_over(now);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(observation) = self.observation.take() else {
            return;
        };
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            observation.fail("timeout");
            self.endpoint.observe_failure(now);
        } else {
            self.endpoint.observe_unanswered(now, now - self.started);
        }
    }
}

/// The status of a gRPC call: in its trailers, or in the head of a trailers-only response.
fn grpc_status(fields: &HeaderMap) -> Option<u16> {
    let status = fields.get("grpc-status")?;
    status.to_str().ok()?.parse().ok()
}

/// A connection broke while it carried a request.
#[derive(Debug, thiserror::Error)]
#[error("the connection with {address} broke")]
pub struct ConnectionBroke {
    address: std::net::SocketAddr,
    #[source]
    source: hyper::Error,
}

impl Caused for ConnectionBroke {
    fn cause(&self) -> Cause {
        Cause::ConnectFailed
    }
}

/// An endpoint answered, and the answer cannot be read; in HTTP/2 its connection goes on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the response of {address} cannot be read: it breaks the rules of HTTP, or its head takes more than {} bytes",
    header_list::PARSED_BYTES
)]
pub struct InvalidResponse {
    address: std::net::SocketAddr,
    #[source]
    source: hyper::Error,
}

impl Caused for InvalidResponse {
    fn cause(&self) -> Cause {
        Cause::InvalidResponse
    }
}

/// The body of the request failed before its end, so that the request has no answer.
#[derive(Debug, thiserror::Error)]
#[error("the request's own body broke off before its end: see what made it")]
pub struct RequestBroke {
    #[source]
    source: hyper::Error,
}

impl Caused for RequestBroke {
    fn cause(&self) -> Cause {
        Cause::InvalidRequest
    }
}
