//! Lets in whom policy lets in, before the application sees a byte.
//!
//! Whatever cannot be decided is refused: no policy yet, a policy that this
//! library does not understand, a request that never passed a listener.

mod denials;

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request};
use mesh_policy::authorize::DenyReason;
use mesh_policy::name::ObjectRef;
use tower_layer::Layer;
use tower_service::Service;

pub(crate) use self::denials::Denials;
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
    denials: Arc<Denials>,
}

impl AuthorizeLayer {
    /// Enforces `policy` on requests that carry a [`Peer`].
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy: Some(policy),
            denials: Arc::default(),
        }
    }

    /// Enforces the ruling that each request carries; one without is refused.
    pub(crate) const fn by_ruling(denials: Arc<Denials>) -> Self {
        Self {
            policy: None,
            denials,
        }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorize {
            inner,
            policy: self.policy.clone(),
            denials: Arc::clone(&self.denials),
        }
    }
}

/// The service [`AuthorizeLayer`] makes.
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    policy: Option<Arc<Policy>>,
    denials: Arc<Denials>,
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
            Err(refused) => {
                if let Refused::Denied(denied) = &refused {
                    self.denials.note(denied);
                }
                Gated::refused(refused)
            }
        }
    }
}

/// Why a request was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Policy does not let this client in.
    #[error(transparent)]
    Denied(#[from] Arc<Denied>),
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

/// Policy does not let a client in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error(
    "{server} does not let {client} in, since {reason}: an AuthorizationPolicy that names it would"
)]
#[non_exhaustive]
pub struct Denied {
    /// The `Server` that governs the port.
    pub server: ObjectRef,
    /// The client's identity, or its address if it proved none.
    pub client: String,
    /// The objects that could have let it in, as a log names them.
    pub rules: String,
    /// What is missing.
    pub reason: DenyReason,
}

impl Denied {
    /// The denial that `error` comes from.
    pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut link = Some(error);
        while let Some(error) = link {
            if let Some(Refused::Denied(denied)) = error.downcast_ref() {
                return Some(denied);
            }
            link = error.source();
        }
        None
    }

    /// The `Server`, as headers and logs name it.
    fn by(&self) -> String {
        let ObjectRef {
            kind,
            namespace,
            name,
            ..
        } = &self.server;
        format!("{kind}/{namespace}/{name}")
    }

    /// The value of `x-mesh-denied-by`; `None` for names that no header may carry.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("{}; reason={}", self.by(), self.reason.word())).ok()
    }
}

impl Caused for Refused {
    fn cause(&self) -> Cause {
        match self {
            Self::Denied(_) | Self::NoPeer => Cause::Denied,
            Self::NoPolicy => Cause::NoPolicy,
            Self::Closed { .. } => Cause::PlanNotUnderstood,
        }
    }
}
