//! Calls into the mesh.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::Mesh;
use crate::answer::{Audience, Cause, Protocol, respond};
use crate::outbound::Outbound;
use crate::telemetry::errors::Errors;
use crate::{Body, BoxError};

type Reply = <Outbound as Service<Request<Body>>>::Future;

/// Calls every service of the mesh. Cheap to clone.
///
/// It is a tower [`Service`] of requests with any body, and never fails: what goes
/// wrong comes as a response, with the statuses that a mesh of sidecars would send
/// (503 for a service that is not known or has no endpoint, 404 where no rule
/// matches, 504 when time is over, ...), the reason in the header `x-mesh-error`, and
/// a text with the remedy; a gRPC call gets its code in `grpc-status`.
#[derive(Clone)]
pub struct Client {
    stack: Outbound,
    /// The control thread lives as long as somebody calls.
    mesh: Mesh,
}

impl Client {
    pub(super) const fn new(stack: Outbound, mesh: Mesh) -> Self {
        Self { stack, mesh }
    }

    /// Sends a request, whose URI names a service: `http://orders.shop/cart`.
    ///
    /// What the request being served at this moment passes on, such as its deadline,
    /// is taken when this is called, not when the future is polled.
    pub fn send<B>(&self, request: Request<B>) -> Sending
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // No step of the stack reserves anything: a clone is as ready as the original.
        begin(&mut self.stack.clone(), &self.mesh, request)
    }
}

fn begin<B>(stack: &mut Outbound, mesh: &Mesh, request: Request<B>) -> Sending
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let request = request.map(Body::new);
    let protocol = Protocol::of(request.headers());
    Sending {
        reply: stack.call(request),
        protocol,
        errors: Arc::clone(&mesh.inner.errors),
    }
}

impl<B> Service<Request<B>> for Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Sending;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // What a step has against it is said in the answer to the request.
        drop(ready!(self.stack.poll_ready(cx)));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Sending {
        begin(&mut self.stack, &self.mesh, request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

pin_project! {
    /// A request on its way.
    #[must_use = "a request is sent only while this is polled"]
    pub struct Sending {
        #[pin]
        reply: Reply,
        protocol: Protocol,
        errors: Arc<Errors>,
    }
}

impl Future for Sending {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let reply = ready!(this.reply.poll(cx));
        Poll::Ready(Ok(reply.unwrap_or_else(|error| {
            tracing::debug!(%error, "a call was answered by the mesh");
            this.errors.count(Cause::of(error.as_ref()));
            respond(error.as_ref(), *this.protocol, Audience::Application)
        })))
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}
