//! Counts what a caller asked for and got, by route, however many tries it took.
//!
//! Tries are counted where they are made, at the endpoint; here is what the
//! application sees of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::retry::Series;
use crate::outbound::Outgoing;
use crate::telemetry::Observation;
use crate::telemetry::errors::ended_by;
use crate::{Body, BoxError};

/// Counts by route, into series of the recorder that `Series` holds.
#[derive(Clone, Debug)]
pub(crate) struct OutboundObserveLayer(Arc<Series>);

impl OutboundObserveLayer {
    /// Counts beside `series`.
    pub(crate) const fn new(series: Arc<Series>) -> Self {
        Self(series)
    }
}

impl<S> Layer<S> for OutboundObserveLayer {
    type Service = OutboundObserve<S>;

    fn layer(&self, inner: S) -> Self::Service {
        OutboundObserve {
            inner,
            series: Arc::clone(&self.0),
        }
    }
}

/// The service [`OutboundObserveLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct OutboundObserve<S> {
    inner: S,
    series: Arc<Series>,
}

impl<S> Service<Box<Outgoing>> for OutboundObserve<S>
where
    S: Service<Box<Outgoing>, Response = Response<Body>, Error = BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = OutboundObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, outgoing: Box<Outgoing>) -> Self::Future {
        let call = &outgoing.call;
        let route = call.register_route(&self.series);
        OutboundObserveFuture {
            observation: route.map(|route| {
                let series = Arc::clone(&route.asked);
                Observation::start_at(call.begun(), series, call.protocol())
            }),
            response: self.inner.call(outgoing),
        }
    }
}

pin_project! {
    /// The future [`OutboundObserve`] returns.
    pub(crate) struct OutboundObserveFuture<F> {
        #[pin]
        response: F,
        observation: Option<Observation>,
    }
}

impl<F> Future for OutboundObserveFuture<F>
where
    F: Future<Output = Result<Response<Body>, BoxError>>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ended = ready!(this.response.poll(cx));
        let Some(observation) = this.observation.take() else {
            return Poll::Ready(ended);
        };
        Poll::Ready(match ended {
            Ok(response) => {
                let mut observation = observation;
                observation.answered(response.status(), response.headers());
                Ok(response.map(|body| body.follow(observation)))
            }
            Err(error) => {
                observation.fail(ended_by(error.as_ref()));
                Err(error)
            }
        })
    }
}
