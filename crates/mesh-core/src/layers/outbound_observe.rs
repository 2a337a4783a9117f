//! Counts what a caller asked for and got, by route, however many tries it took.
//!
//! Tries are counted where they are made, at the endpoint; here is what the
//! application sees of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::Empty;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::retry::Series;
use crate::answer::Protocol;
use crate::outbound::Call;
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

impl<S> Service<Request<Body>> for OutboundObserve<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = OutboundObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let protocol = Protocol::of(request.headers());
        let call = request.extensions().get::<Call>();
        let route = call.and_then(|call| call.register_route(&self.series));
        OutboundObserveFuture {
            observation: route.map(|route| Observation::start(Arc::clone(&route.asked), protocol)),
            response: self.inner.call(request),
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
            Ok(response) => Ok(watch(response, observation)),
            Err(error) => {
                observation.fail(ended_by(error.as_ref()));
                Err(error)
            }
        })
    }
}

/// Follows a response to its end; one that is there already costs no box.
fn watch(response: Response<Body>, observation: Observation) -> Response<Body> {
    if !response.body().is_end_stream() {
        return observation.respond(response).map(Body::new);
    }
    let (head, body) = response.into_parts();
    let ended = observation.respond(Response::from_parts(head, Empty::<Bytes>::new()));
    ended.map(|_| body)
}
