//! Sends a request to its endpoint, and watches what comes back.
//!
//! Only here are address and expected identity known, so metrics are counted here,
//! once per attempt, and here the request gets the form that its connection wants.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Empty;
use hyper::body::Incoming;
use mesh_policy::classify::{Classification, classify};
use tokio::time::Instant;
use tower_service::Service;

use super::retry::Unsent;
use super::split::NotRouted;
use crate::answer::{Cause, Caused, Protocol};
use crate::outbound::{Call, form};
use crate::plans::{Endpoint as Place, InFlight};
use crate::telemetry::Observation;
use crate::transport::pool::Held;
use crate::{Body, BoxError};

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

impl Service<Request<Body>> for Endpoint {
    type Response = Response<Body>;
    type Error = BoxError;
    /// The one box of the stack: here a connection may have to be awaited.
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = request.extensions_mut().remove::<Call>();
        Box::pin(send(call, request))
    }
}

async fn send(call: Option<Call>, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let call = call.ok_or(NotRouted)?;
    let (backend, in_flight) = call.chosen().ok_or(NotRouted)?;
    let endpoint = in_flight.endpoint();
    form::shape(&mut request, &call, endpoint)?;
    let protocol = Protocol::of(request.headers());
    let metrics = endpoint.metrics(&call.port().address, backend.port());
    let observation = Observation::start(metrics, protocol);
    let mut watch = Watch::new(Arc::clone(endpoint), call.deadline(), observation);
    match exchange(endpoint, request).await {
        Ok((response, held)) => {
            call.carried();
            let observation = watch.answered(&response, protocol);
            let observation = observation.expect("an outcome is told once");
            Ok(deliver(response, held, observation, in_flight.clone()))
        }
        Err(error) => {
            watch.failed(&error);
            Err(error)
        }
    }
}

/// Sends the request on a connection that takes it.
async fn exchange(
    endpoint: &Arc<Place>,
    mut request: Request<Body>,
) -> Result<(Response<Incoming>, Held), BoxError> {
    let mut unsent = 0;
    loop {
        let lease = match endpoint.pool().ready() {
            Some(lease) => lease,
            None => match endpoint.pool().lease().await {
                Ok(lease) => lease,
                Err(error) => return Err(Unsent::new(request, error).into()),
            },
        };
        let mut failed = match lease.send(request).await {
            Ok(answered) => return Ok(answered),
            Err(failed) => failed,
        };
        unsent += 1;
        match failed.take_message() {
            Some(back) if unsent < MAX_UNSENT => request = back,
            back => {
                let address = endpoint.facts().address;
                let source = failed.into_error();
                let broke = ConnectionBroke { address, source };
                return Err(match back {
                    Some(back) => Unsent::new(back, broke).into(),
                    None => broke.into(),
                });
            }
        }
    }
}

/// Tells the balancer how an endpoint did. Dropped without a word, it says nothing,
/// unless the time was over: a silent endpoint must not look idle.
struct Watch {
    endpoint: Arc<Place>,
    started: Instant,
    deadline: Option<Instant>,
    /// Taken once the outcome is known.
    observation: Option<Observation>,
}

impl Watch {
    fn new(endpoint: Arc<Place>, deadline: Option<Instant>, observation: Observation) -> Self {
        Self {
            endpoint,
            started: Instant::now(),
            deadline,
            observation: Some(observation),
        }
    }

    fn answered(
        &mut self,
        response: &Response<Incoming>,
        protocol: Protocol,
    ) -> Option<Observation> {
        let status = response.status().as_u16();
        let grpc = match protocol {
            Protocol::Http => None,
            Protocol::Grpc => grpc_status(response),
        };
        let now = Instant::now();
        let failed = classify(status, grpc) == Classification::Failure;
        if failed || status == TOO_MANY_REQUESTS || grpc == Some(RESOURCE_EXHAUSTED) {
            self.endpoint.observe_failure(now);
        } else {
            self.endpoint.observe(now, now - self.started);
        }
        self.observation.take()
    }

    fn failed(&mut self, error: &BoxError) {
        if let Some(observation) = self.observation.take() {
            observation.fail("unclassified");
        }
        let now = Instant::now();
        self.endpoint.observe_failure(now);
        let unsent = error.downcast_ref::<Unsent>();
        if unsent.is_some_and(Unsent::is_unreachable) {
            self.endpoint.pass_over(now);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now)
            && let Some(observation) = self.observation.take()
        {
            observation.fail("timeout");
            self.endpoint.observe_failure(now);
        }
    }
}

/// The status of a trailers-only response.
fn grpc_status(response: &Response<Incoming>) -> Option<u16> {
    let status = response.headers().get("grpc-status")?;
    status.to_str().ok()?.parse().ok()
}

fn deliver(
    response: Response<Incoming>,
    held: Held,
    observation: Observation,
    in_flight: InFlight,
) -> Response<Body> {
    if response.body().is_end_stream() {
        held.finish();
        // It is at its end already, so nothing needs to follow it.
        let (head, body) = response.into_parts();
        let observed = observation.respond(Response::from_parts(head, Empty::<Bytes>::new()));
        return observed.map(|_| Body::from(body));
    }
    let response = response.map(|body| Delivery {
        body,
        held: Some(held),
        _in_flight: in_flight,
    });
    observation.respond(response).map(Body::new)
}

/// A response body on its way, which keeps its stream and counts as load until its end.
struct Delivery {
    body: Incoming,
    held: Option<Held>,
    _in_flight: InFlight,
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // Whoever asks `is_end_stream` may never poll for the `None`.
        if (polled.is_none() || self.body.is_end_stream())
            && let Some(held) = self.held.take()
        {
            held.finish();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
