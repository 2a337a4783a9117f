//! Turns a panic of the handler, or of its response's body, into an error of that request alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use metrics::Counter;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::answer::{Cause, Caused};
use crate::body::BoxedBody;
use crate::{Body, BoxError};

/// Catches panics of the inner service and counts them.
#[derive(Clone, Debug)]
pub struct CatchPanicLayer {
    panics: Counter,
}

impl CatchPanicLayer {
    /// Counts panics into `panics`.
    #[must_use]
    pub const fn new(panics: Counter) -> Self {
        Self { panics }
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic {
            inner,
            panics: self.panics.clone(),
        }
    }
}

/// The service [`CatchPanicLayer`] makes.
#[derive(Clone, Debug)]
pub struct CatchPanic<S> {
    inner: S,
    panics: Counter,
}

impl<S, Request> Service<Request> for CatchPanic<S>
where
    S: Service<Request, Response = Response<Body>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.inner.poll_ready(cx)));
        polled.unwrap_or_else(|payload| Poll::Ready(Err(caught(&*payload, &self.panics).into())))
    }

    #[inline]
    fn call(&mut self, request: Request) -> Self::Future {
        // A service is cloned for each request and dropped after it, so nothing that the panic
        // left half done is seen again, unless the application shares it.
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let (response, panicked) = match called {
            Ok(response) => (Some(response), None),
            Err(payload) => (None, Some(caught(&*payload, &self.panics))),
        };
        CatchPanicFuture {
            response,
            panicked,
            panics: self.panics.clone(),
        }
    }
}

pin_project! {
    /// The future [`CatchPanic`] returns.
    #[derive(Debug)]
    pub struct CatchPanicFuture<F> {
        #[pin]
        response: Option<F>,
        panicked: Option<Panicked>,
        panics: Counter,
    }

    impl<F> PinnedDrop for CatchPanicFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            drop_guarded(|| this.response.set(None), this.panics);
        }
    }
}

impl<F> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<Body>, BoxError>>,
{
    type Output = Result<Response<Body>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(panicked) = this.panicked.take() {
            return Poll::Ready(Err(panicked.into()));
        }
        let response = this.response.as_mut().as_pin_mut();
        let response = response.expect("there is a future, or a panic in its stead");
        match catch_unwind(AssertUnwindSafe(|| response.poll(cx))) {
            Ok(polled) => polled.map_ok(|response| {
                let panics = this.panics.clone();
                response.map(|body| body.guard(panics))
            }),
            Err(payload) => {
                let panicked = caught(&*payload, this.panics);
                drop_guarded(|| this.response.set(None), this.panics);
                Poll::Ready(Err(panicked.into()))
            }
        }
    }
}

/// Runs `drop`, which ends what an application made: a panic there is counted, and goes no further.
///
/// Whatever is dropped after a panic, or because a client went away, is dropped by the task of a
/// connection, which must not end for it.
fn drop_guarded(drop: impl FnOnce(), panics: &Counter) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drop)) {
        caught(&*payload, panics);
    }
}

/// A body whose panic is an error, and its end.
pub(crate) struct Guarded {
    /// `None` after a panic: nobody knows what is left.
    body: Option<BoxedBody>,
    panics: Counter,
}

impl Guarded {
    /// Counts the panic of `body` in `panics`.
    pub(crate) const fn new(body: BoxedBody, panics: Counter) -> Self {
        let body = Some(body);
        Self { body, panics }
    }

    fn end(&mut self) {
        let body = self.body.take();
        drop_guarded(|| drop(body), &self.panics);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            Ok(polled) => polled,
            Err(payload) => {
                let panicked = caught(&*payload, &self.panics);
                self.end();
                Poll::Ready(Some(Err(panicked.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Counts and logs a panic.
fn caught(payload: &(dyn Any + Send), panics: &Counter) -> Panicked {
    let panicked = Panicked::new(payload);
    panics.increment(1);
    tracing::error!(message = panicked.message, "a handler panicked");
    panicked
}

/// The handler panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the handler panicked: {message}; its backtrace is on stderr")]
pub struct Panicked {
    message: String,
}

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            message: text.unwrap_or("with a value that is no text").to_owned(),
        }
    }
}

impl Caused for Panicked {
    fn cause(&self) -> Cause {
        Cause::Panicked
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use http_body_util::{BodyExt, StreamBody};
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn fine() -> Result<Response<Body>, BoxError> {
        Ok(Response::new(Body::empty()))
    }

    #[tokio::test]
    async fn p16_a_panic_while_answering_is_an_error_of_that_request() {
        let handler = service_fn(|fails: bool| async move {
            assert!(!fails, "on purpose");
            fine()
        });
        let service = CatchPanicLayer::new(Counter::noop()).layer(handler);
        let error = service.clone().oneshot(true).await;
        assert!(error.expect_err("it panicked").is::<Panicked>());
        assert!(service.oneshot(false).await.is_ok());
    }

    #[tokio::test]
    async fn p16_a_panic_before_there_is_a_future_is_an_error_too() {
        let handler = service_fn(|(): ()| {
            assert!(std::hint::black_box(false), "on purpose");
            std::future::ready(fine())
        });
        let service = CatchPanicLayer::new(Counter::noop()).layer(handler);
        let error = service.oneshot(()).await.expect_err("it panicked");
        assert!(error.to_string().contains("on purpose"));
    }

    #[tokio::test]
    async fn p16_a_panic_of_a_body_is_its_error_and_its_end() {
        let broken = futures_util::stream::repeat_with(|| -> Result<Frame<Bytes>, BoxError> {
            panic!("on purpose")
        });
        let mut body = Body::new(StreamBody::new(broken)).guard(Counter::noop());
        let frame = body.frame().await.expect("an error");
        assert!(frame.expect_err("it panicked").is::<Panicked>());
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    /// Panics when dropped.
    struct Brittle;

    impl Drop for Brittle {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "on purpose, at the end");
        }
    }

    #[tokio::test]
    async fn p16_a_panic_of_what_a_panic_leaves_behind_goes_no_further() {
        let handler = service_fn(|(): ()| {
            let kept = Brittle;
            std::future::poll_fn(move |_| {
                let _kept = &kept;
                panic!("on purpose")
            })
        });
        let panics = Arc::new(AtomicU64::new(0));
        let counter = Counter::from_arc(Arc::clone(&panics));
        let mut service = CatchPanicLayer::new(counter).layer(handler);
        let mut answer = Box::pin(service.call(()));
        let error: BoxError = match answer.as_mut().await {
            Ok(Response { .. }) => unreachable!("it panicked"),
            Err(error) => error,
        };
        assert!(error.to_string().contains("on purpose;"), "{error}");
        assert_eq!(panics.load(Ordering::Relaxed), 2, "the future is dropped");
        drop(answer);
    }

    #[tokio::test]
    async fn p16_a_panic_of_what_a_client_leaves_behind_goes_no_further() {
        let handler = service_fn(|(): ()| async {
            let _kept = Brittle;
            std::future::pending::<()>().await;
            fine()
        });
        let mut service = CatchPanicLayer::new(Counter::noop()).layer(handler);
        let mut answer = Box::pin(service.call(()));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(answer.as_mut().poll(&mut context).is_pending());
        drop(answer);

        let kept = Brittle;
        let stream = futures_util::stream::poll_fn(move |_| {
            let _kept = &kept;
            Poll::<Option<Result<Frame<Bytes>, BoxError>>>::Pending
        });
        drop(Body::new(StreamBody::new(stream)).guard(Counter::noop()));
    }

    /// Panics instead of being ready.
    #[derive(Clone)]
    struct NeverReady;

    impl Service<()> for NeverReady {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            panic!("on purpose")
        }

        fn call(&mut self, (): ()) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    #[tokio::test]
    async fn p16_a_panic_of_readiness_is_an_error_too() {
        let service = CatchPanicLayer::new(Counter::noop()).layer(NeverReady);
        let error = service.oneshot(()).await.expect_err("it panicked");
        assert!(error.is::<Panicked>());
    }
}
