//! Waits for the application inside the request, below all that may refuse it.
//!
//! A stack is asked for readiness before it sees a request. An application that is
//! busy would keep strangers waiting for their refusal, and no deadline would run.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_layer::Layer;
use tower_service::Service;

use super::deadline::Late;
use crate::{Body, BoxError, context};

/// Is always ready; each request waits for the inner service until its deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadinessLayer;

impl<S> Layer<S> for ReadinessLayer {
    type Service = Readiness<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Readiness { inner }
    }
}

/// The service [`ReadinessLayer`] makes.
#[derive(Clone, Debug)]
pub struct Readiness<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Readiness<S>
where
    S: Service<Request<Body>, Error = BoxError> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ReadinessFuture<S, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline = context::with(|context| context.deadline);
        ReadinessFuture {
            waiting: Some((self.inner.clone(), request)),
            deadline,
            late: None,
            response: None,
        }
    }
}

pin_project! {
    /// The future [`Readiness`] returns.
    #[derive(Debug)]
    pub struct ReadinessFuture<S, F> {
        // Taken once the service is ready.
        waiting: Option<(S, Request<Body>)>,
        deadline: Option<Instant>,
        // Made once the service is not ready: mostly it is.
        late: Option<Pin<Box<Sleep>>>,
        #[pin]
        response: Option<F>,
    }
}

impl<S> Future for ReadinessFuture<S, S::Future>
where
    S: Service<Request<Body>, Error = BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((service, _)) = this.waiting
            && service.poll_ready(cx)?.is_pending()
        {
            let Some(deadline) = *this.deadline else {
                return Poll::Pending;
            };
            let late = this
                .late
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(late.as_mut().poll(cx));
            return Poll::Ready(Err(Late.into()));
        }
        if let Some((mut service, request)) = this.waiting.take() {
            this.response.set(Some(service.call(request)));
        }
        let response = this.response.as_pin_mut();
        response.expect("the service was called above").poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};
    use tower::ServiceExt;

    use super::*;

    /// Takes 20 s to be ready, anew for each request.
    #[derive(Default)]
    struct Busy(Option<Pin<Box<Sleep>>>);

    impl Clone for Busy {
        fn clone(&self) -> Self {
            Self(None)
        }
    }

    impl Service<Request<Body>> for Busy {
        type Response = ();
        type Error = BoxError;
        type Future = Ready<Result<(), BoxError>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            let wait = || Box::pin(sleep(Duration::from_secs(20)));
            self.0.get_or_insert_with(wait).as_mut().poll(cx).map(Ok)
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            assert!(self.0.take().is_some_and(|wait| wait.is_elapsed()));
            ready(Ok(()))
        }
    }

    async fn ask(allowed: u64) -> Result<(), BoxError> {
        let context = context::Context {
            deadline: Some(Instant::now() + Duration::from_secs(allowed)),
            ..context::Context::default()
        };
        let request = ReadinessLayer.layer(Busy::default());
        context::scope(context, request.oneshot(Request::default())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_busy_service_until_its_deadline() {
        let started = Instant::now();
        let error = ask(1).await.expect_err("it is late");
        assert!(error.is::<Late>());
        assert_eq!(started.elapsed(), Duration::from_secs(1));
        ask(21).await.expect("there is time");
    }
}
