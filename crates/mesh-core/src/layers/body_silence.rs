//! Gives up on a request body that stays silent while the handler waits for it.
//!
//! A client that sends one byte now and then would otherwise hold a handler, and
//! what it has allocated, for ever (slow POST). Time counts only while the
//! handler waits: a slow reader is no silent sender.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

use crate::answer::{Cause, Caused, Protocol};
use crate::peer::Peer;
use crate::{Body, BoxError};

/// Limits the silence of request bodies; never of gRPC calls (by HTTP/2 and POST, as gRPC
/// wants it), which are silent by design.
#[derive(Clone, Copy, Debug)]
pub struct BodySilenceLayer {
    limit: Option<Duration>,
}

impl BodySilenceLayer {
    /// Allows `limit` between two pieces of a body; `None` allows any silence. Inside a
    /// listener's stack the inbound plan wins.
    #[must_use]
    pub const fn new(limit: Option<Duration>) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for BodySilenceLayer {
    type Service = LimitSilence<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LimitSilence {
            inner,
            limit: self.limit,
        }
    }
}

/// The service [`BodySilenceLayer`] makes.
#[derive(Clone, Debug)]
pub struct LimitSilence<S> {
    inner: S,
    limit: Option<Duration>,
}

impl<S> Service<Request<Body>> for LimitSilence<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = LimitSilenceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let ruling = peer.and_then(Peer::ruling);
        let limit = ruling.map_or(self.limit, |ruling| ruling.body_silence(self.limit));
        let exempt = request.body().is_end_stream() || is_grpc_call(&request);
        match limit.filter(|_| !exempt) {
            None => LimitSilenceFuture {
                response: self.inner.call(request),
                silent: None,
            },
            Some(limit) => {
                let silent = Arc::new(AtomicBool::new(false));
                let flag = Arc::clone(&silent);
                let request = request.map(|body| body.limit_silence(limit, flag));
                LimitSilenceFuture {
                    response: self.inner.call(request),
                    silent: Some(Silence {
                        limit,
                        flag: silent,
                    }),
                }
            }
        }
    }
}

/// Whether a request is one that a gRPC client makes: more than a header that anybody may set.
fn is_grpc_call(request: &Request<Body>) -> bool {
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && Protocol::of(request.headers()) == Protocol::Grpc
}

#[derive(Debug)]
struct Silence {
    limit: Duration,
    flag: Arc<AtomicBool>,
}

pin_project! {
    /// The future [`LimitSilence`] returns.
    #[derive(Debug)]
    pub struct LimitSilenceFuture<F> {
        #[pin]
        response: F,
        silent: Option<Silence>,
    }
}

impl<F> Future for LimitSilenceFuture<F>
where
    F: Future<Output = Result<Response<Body>, BoxError>>,
{
    type Output = Result<Response<Body>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.response.poll(cx));
        // Whatever the handler made of a body that broke off, the truth is that it fell silent.
        Poll::Ready(match this.silent {
            Some(silence) if silence.flag.load(Ordering::Relaxed) => {
                let limit = silence.limit;
                Err(BodySilent { limit }.into())
            }
            _ => result,
        })
    }
}

/// A body that fails once it has been silent for too long.
#[derive(Debug)]
pub(crate) struct Audible<B> {
    body: B,
    /// Made when a handler first has to wait: most bodies are there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    limit: Duration,
    waiting: bool,
    silent: Arc<AtomicBool>,
}

impl<B> Audible<B> {
    /// Sets `silent` once `body` has been silent for `limit`.
    pub(crate) const fn new(body: B, limit: Duration, silent: Arc<AtomicBool>) -> Self {
        Self {
            body,
            sleep: None,
            limit,
            waiting: false,
            silent,
        }
    }
}

impl<B> HttpBody for Audible<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = this.limit;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !std::mem::replace(&mut this.waiting, true) {
            sleep.as_mut().reset(Instant::now() + limit);
        }
        ready!(sleep.as_mut().poll(cx));
        this.silent.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodySilent { limit }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request body stayed silent for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the request body was silent for {limit:?}: send it faster, or set mesh.rs/request-body-idle on the Server"
)]
pub struct BodySilent {
    limit: Duration,
}

impl Caused for BodySilent {
    fn cause(&self) -> Cause {
        Cause::BodySilent
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// A body that says a byte every `pause`.
    fn dripping(pause: Duration) -> Body {
        let stream = futures_util::stream::unfold(0_u8, move |sent| async move {
            sleep(pause).await;
            let frame = Frame::data(Bytes::from_static(b"x"));
            (sent < 3).then_some((Ok::<_, BoxError>(frame), sent + 1))
        });
        Body::new(StreamBody::new(stream))
    }

    /// Like a handler that makes its own answer of a broken body.
    async fn post(body: Body, version: Version, kind: &str) -> Result<Response<Body>, BoxError> {
        let handler = service_fn(|request: Request<Body>| async {
            let read = request.into_body().collect().await;
            let status = if read.is_ok() { 200 } else { 400 };
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
        });
        let layer = BodySilenceLayer::new(Some(Duration::from_secs(30)));
        let request = Request::post("/")
            .version(version)
            .header("content-type", kind);
        layer.layer(handler).oneshot(request.body(body)?).await
    }

    #[tokio::test(start_paused = true)]
    async fn h07_a_body_that_is_silent_for_30_seconds_fails_the_request() {
        let started = Instant::now();
        let hourly = dripping(Duration::from_secs(3600));
        let result = post(hourly, Version::HTTP_2, "text/plain").await;
        assert!(result.expect_err("it is silent").is::<BodySilent>());
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn h07_a_slow_body_that_goes_on_is_read_to_its_end() {
        let started = Instant::now();
        let slow = dripping(Duration::from_secs(29));
        let response = post(slow, Version::HTTP_2, "text/plain").await;
        assert_eq!(response.expect("it is read").status(), 200);
        assert_eq!(started.elapsed(), Duration::from_secs(4 * 29));
    }

    #[tokio::test(start_paused = true)]
    async fn h07_a_grpc_stream_may_be_silent() {
        let hourly = dripping(Duration::from_secs(3600));
        let response = post(hourly, Version::HTTP_2, "application/grpc+proto").await;
        assert_eq!(response.expect("it is read").status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn h07_a_header_alone_makes_no_grpc_stream() {
        for (version, kind) in [
            (Version::HTTP_11, "application/grpc"),
            (Version::HTTP_2, "application/grpcfoo"),
        ] {
            let result = post(dripping(Duration::from_secs(3600)), version, kind).await;
            assert!(result.expect_err("it is silent").is::<BodySilent>());
        }
    }
}
