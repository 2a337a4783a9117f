//! Turns a panic of the handler into an error of that request alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use metrics::Counter;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::answer::{Cause, Caused};

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
    S: Service<Request, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // A service is cloned for each request and dropped after it, so nothing that the panic
        // left half done is seen again, unless the application shares it.
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        let (response, panicked) = match called {
            Ok(response) => (Some(response), None),
            Err(payload) => (None, Some(Panicked::new(&*payload))),
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
}

impl<F, Response> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response, BoxError>>,
{
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let panicked = match this.response.as_pin_mut() {
            Some(response) => match catch_unwind(AssertUnwindSafe(|| response.poll(cx))) {
                Ok(polled) => return polled,
                Err(payload) => Panicked::new(&*payload),
            },
            None => this.panicked.take().unwrap_or(Panicked {
                message: String::new(),
            }),
        };
        this.panics.increment(1);
        tracing::error!(message = panicked.message, "a handler panicked");
        Poll::Ready(Err(panicked.into()))
    }
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
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test]
    async fn p16_a_panic_while_answering_is_an_error_of_that_request() {
        let handler = service_fn(|fails: bool| async move {
            assert!(!fails, "on purpose");
            Ok::<_, BoxError>("fine")
        });
        let service = CatchPanicLayer::new(Counter::noop()).layer(handler);
        let error = service
            .clone()
            .oneshot(true)
            .await
            .expect_err("it panicked");
        assert!(error.is::<Panicked>());
        assert_eq!(service.oneshot(false).await.expect("no panic"), "fine");
    }

    #[tokio::test]
    async fn p16_a_panic_before_there_is_a_future_is_an_error_too() {
        let handler = service_fn(|(): ()| {
            assert!(std::hint::black_box(false), "on purpose");
            std::future::ready(Ok::<_, BoxError>(()))
        });
        let service = CatchPanicLayer::new(Counter::noop()).layer(handler);
        let error = service.oneshot(()).await.expect_err("it panicked");
        assert!(error.to_string().contains("on purpose"));
    }
}
