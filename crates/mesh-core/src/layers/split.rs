//! Chooses the backend of a request by the weights of its rule.

use std::task::{Context, Poll};

use mesh_policy::draw::Draw;
use mesh_policy::name::ServicePort;
use mesh_policy::split::Target;
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::BoxError;
use crate::answer::{Cause, Caused};
use crate::outbound::{Call, Outgoing};

/// Gives every routed request a backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SplitLayer;

impl<S> Layer<S> for SplitLayer {
    type Service = Split<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Split { inner }
    }
}

/// The service [`SplitLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct Split<S> {
    inner: S,
}

impl<S> Service<Box<Outgoing>> for Split<S>
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
        match choose(&mut outgoing.call, Draw(fastrand::u64(..))) {
            Ok(()) => Gated::passed(self.inner.call(outgoing)),
            Err(error) => Gated::refused(error),
        }
    }
}

fn choose(call: &mut Call, draw: Draw) -> Result<(), NoBackend> {
    let none = || NoBackend::Weightless {
        port: call.port().address.clone(),
    };
    let (routes, rule) = call.routes().ok_or_else(none)?;
    let split = &routes.table.rules()[rule].split;
    let place = split.choose(draw).ok_or_else(none)?;
    match (routes.backend(rule, place), &split.backends()[place].target) {
        (Some(backend), _) => {
            let backend = std::sync::Arc::clone(backend);
            call.set_backend(place, backend);
            Ok(())
        }
        (None, Target::Invalid { name, message, .. }) => Err(NoBackend::Invalid {
            name: name.clone(),
            message: message.clone(),
        }),
        (None, Target::Service(port)) => Err(NoBackend::Invalid {
            name: port.to_string(),
            message: "its endpoints were never asked for".to_owned(),
        }),
    }
}

/// A rule leads nowhere; Gateway API answers 500.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoBackend {
    /// There is no backend with a weight.
    #[error(
        "the rule that matches at {port} has no backend with a weight above 0: give one a weight"
    )]
    Weightless {
        /// The port.
        port: ServicePort,
    },
    /// The chosen one cannot be called.
    #[error("backend {name} cannot be called: {message}")]
    Invalid {
        /// The backend as it was written.
        name: String,
        /// What is wrong with it, and the remedy.
        message: String,
    },
}

impl Caused for NoBackend {
    fn cause(&self) -> Cause {
        match self {
            Self::Weightless { .. } => Cause::NoBackends,
            Self::Invalid { .. } => Cause::BackendNotFound,
        }
    }
}

/// A step met a request that the steps before it have not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has not passed the step that routes it: put this layer below it")]
pub struct NotRouted;
