//! What a request passes before the application sees it.
//!
//! ```text
//!  accept    one byte tells TLS from plaintext; TLS proves an identity
//!    ▼
//!  peer      who is calling: an extension; the wire names nobody
//!  context   deadline, trace and criticality, from a caller that proved who it is; its name in two headers
//!  ruling    the policy of this moment, loaded once and kept by the request
//!  observe   counts the request, and what became of it
//!  answer    errors and panics of all below become responses
//!  size      heads of 64 KiB at most, in either direction
//!  deadline  work that is late already is refused
//!  target    one path and one host for rules and for the application, or 400
//!  route     (nothing yet)
//!  authorize before the application sees a byte of the body
//!  filters   (nothing yet)
//!  limit     (nothing yet, but for silent request bodies)
//!  fault     (nothing yet)
//!  readiness waits for a busy application, until the deadline
//!    ▼
//!  the application
//! ```
//!
//! Steps that do nothing yet have their place and cost nothing.

mod case;
mod listener;
mod policy;
mod ruling;
mod unread;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower::{ServiceBuilder, ServiceExt};
use tower_layer::Identity;
use tower_service::Service;

use crate::answer::DENIED_BY_HEADER;
use crate::layers::answer::{AnswerLayer, StreamRefused};
use crate::layers::authorize::AuthorizeLayer;
use crate::layers::body_silence::BodySilenceLayer;
use crate::layers::canonical_target::CanonicalTargetLayer;
use crate::layers::deadline::DeadlineLayer;
use crate::layers::header_limit::HeaderLimitLayer;
use crate::layers::inbound_context::InboundContextLayer;
use crate::layers::inbound_observe::InboundObserveLayer;
use crate::layers::panic::CatchPanicLayer;
use crate::layers::peer::PeerLayer;
use crate::layers::readiness::ReadinessLayer;
use crate::{Body, BoxError, Peer};

pub use listener::{InboundState, serve};
pub use policy::{Open, Policy};
pub(crate) use ruling::Ruling;
use ruling::{Docket, RulingLayer};

/// The steps between one connection and the application, outermost first.
fn stack<A, B>(
    app: A,
    peer: Peer,
    ruling: RulingLayer,
    docket: &Docket,
) -> impl Service<
    Request<Body>,
    Response = Response<impl HttpBody<Data = Bytes, Error = BoxError> + Send + 'static>,
    Error = StreamRefused,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static
where
    A: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    A::Error: Into<BoxError>,
    A::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let route = Identity::new();
    let filters = Identity::new();
    let limit = BodySilenceLayer::new(docket.limits().body_silence);
    let fault = Identity::new();
    ServiceBuilder::new()
        .layer(PeerLayer::new(peer))
        .layer(InboundContextLayer)
        .layer(ruling)
        .layer(InboundObserveLayer::by_ruling())
        .layer(AnswerLayer)
        .layer(HeaderLimitLayer)
        .layer(CatchPanicLayer::new(docket.metrics().panics.clone()))
        .layer(DeadlineLayer)
        .layer(CanonicalTargetLayer::inbound())
        .layer(route)
        .layer(AuthorizeLayer::by_ruling(Arc::clone(&docket.denials)))
        .layer(filters)
        .layer(limit)
        .layer(fault)
        .layer(ReadinessLayer)
        .service(
            app.map_response(|response: Response<B>| own(response.map(Body::new)))
                .map_err(Into::into),
        )
}

/// The response without what only the mesh says: who denied a request.
fn own(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    if headers.keys().any(|name| *name == DENIED_BY_HEADER) {
        headers.remove(DENIED_BY_HEADER);
    }
    response
}

#[cfg(test)]
mod tests;
