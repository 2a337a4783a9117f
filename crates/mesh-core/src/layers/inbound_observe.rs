//! Counts what a server receives, and what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::answer::{Cause, Protocol};
use crate::peer::Peer;
use crate::telemetry::{Observation, Observed, RequestMetrics};

/// Counts into one set of series; inside a listener's stack, into those of client and verdict.
#[derive(Clone, Debug)]
pub struct InboundObserveLayer {
    metrics: Option<Arc<RequestMetrics>>,
}

impl InboundObserveLayer {
    /// Counts into `metrics`.
    #[must_use]
    pub const fn new(metrics: Arc<RequestMetrics>) -> Self {
        Self {
            metrics: Some(metrics),
        }
    }

    /// Counts into the series that each request's ruling names.
    pub(crate) const fn by_ruling() -> Self {
        Self { metrics: None }
    }
}

impl<S> Layer<S> for InboundObserveLayer {
    type Service = InboundObserve<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InboundObserve {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

/// The service [`InboundObserveLayer`] makes.
#[derive(Clone, Debug)]
pub struct InboundObserve<S> {
    inner: S,
    metrics: Option<Arc<RequestMetrics>>,
}

impl<S, B, R> Service<Request<B>> for InboundObserve<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<Observed<R>>;
    type Error = S::Error;
    type Future = InboundObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let ruling = peer.and_then(Peer::ruling);
        let metrics = ruling
            .map(|ruling| ruling.metrics())
            .or(self.metrics.as_ref());
        let protocol = Protocol::of(request.headers());
        InboundObserveFuture {
            observation: metrics.map(|metrics| Observation::start(Arc::clone(metrics), protocol)),
            response: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The future [`InboundObserve`] returns.
    #[derive(Debug)]
    pub struct InboundObserveFuture<F> {
        #[pin]
        response: F,
        observation: Option<Observation>,
    }
}

impl<F, B, E> Future for InboundObserveFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<Observed<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.response.poll(cx));
        Poll::Ready(match (result, this.observation.take()) {
            (Ok(response), Some(observation)) => {
                if let Some(cause) = response.extensions().get::<Cause>() {
                    observation.answered_for(*cause);
                }
                Ok(observation.respond(response))
            }
            (Ok(response), None) => Ok(response.map(Observed::unobserved)),
            (Err(error), observation) => {
                if let Some(observation) = observation {
                    observation.fail("unclassified");
                }
                Err(error)
            }
        })
    }
}
