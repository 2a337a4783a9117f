//! Lets in whom policy lets in, before the application sees a byte.
//!
//! Whatever cannot be decided is refused: no policy yet, a policy that this
//! library does not understand, a request that never passed a listener.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use mesh_policy::authorize::DenyReason;
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::answer::{Cause, Caused};
use crate::inbound::Policy;
use crate::peer::Peer;
use crate::{Body, BoxError};

/// Enforces one policy, also inside a server whose listener has enforced its own.
#[derive(Clone, Debug)]
pub struct AuthorizeLayer {
    /// `None` is the listener's own step, which relies on the ruling of the connection.
    policy: Option<Arc<Policy>>,
}

impl AuthorizeLayer {
    /// Enforces `policy` on requests that carry a [`Peer`].
    #[must_use]
    pub const fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy: Some(policy),
        }
    }

    /// Enforces the ruling that each request carries; one without is refused.
    pub(crate) const fn by_ruling() -> Self {
        Self { policy: None }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// The service [`AuthorizeLayer`] makes.
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    policy: Option<Arc<Policy>>,
}

impl<S> Authorize<S> {
    fn check(&self, request: &Request<Body>) -> Result<(), Refused> {
        let peer = request.extensions().get::<Peer>();
        let peer = peer.ok_or(Refused::NoPeer)?;
        match &self.policy {
            Some(policy) => policy.admit(peer).map(drop),
            None => peer.ruling().ok_or(Refused::NoPolicy)?.check(),
        }
    }
}

impl<S> Service<Request<Body>> for Authorize<S>
where
    S: Service<Request<Body>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Gated<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Gated::passed(self.inner.call(request)),
            Err(refused) => Gated::refused(refused),
        }
    }
}

/// Why a request was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Policy does not let this client in.
    #[error("{server} does not let {client} in, since {}: an AuthorizationPolicy that names it would", why(*reason))]
    Denied {
        /// The `Server` that governs the port.
        server: String,
        /// The client's identity, or its address if it proved none.
        client: String,
        /// What is missing.
        reason: DenyReason,
    },
    /// Discovery has not said yet who may call.
    #[error("the listener has no policy yet: it opens once discovery has sent one")]
    NoPolicy,
    /// The policy is beyond this library.
    #[error("the listener is closed: {why}")]
    Closed {
        /// What was not understood, with the remedy.
        why: String,
    },
    /// The request came past the peer step.
    #[error("nobody knows whose request this is: put PeerLayer before AuthorizeLayer")]
    NoPeer,
}

const fn why(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::NoAuthorization => "nobody is authorized",
        DenyReason::NoneFits => "no authorization fits",
    }
}

impl Caused for Refused {
    fn cause(&self) -> Cause {
        match self {
            Self::Denied { .. } | Self::NoPeer => Cause::Denied,
            Self::NoPolicy => Cause::NoPolicy,
            Self::Closed { .. } => Cause::PlanNotUnderstood,
        }
    }
}
