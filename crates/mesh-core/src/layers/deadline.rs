//! Refuses work whose caller has stopped waiting.
//!
//! A handler that answers nobody takes time from those who still wait, and does
//! so exactly when the server is slow already.

use std::task::{Context, Poll};

use http::Request;
use mesh_policy::deadline::remaining;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::answer::{Cause, Caused};
use crate::{Body, BoxError, context};

/// Refuses requests whose inherited deadline has passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner }
    }
}

/// The service [`DeadlineLayer`] makes.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Deadline<S>
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
        let deadline = context::with(|context| context.deadline);
        let late = deadline.is_some_and(|deadline| {
            remaining(deadline.into_std(), Instant::now().into_std()).is_none()
        });
        if late {
            Gated::refused(Late)
        } else {
            Gated::passed(self.inner.call(request))
        }
    }
}

/// The caller's deadline had passed before the work began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the caller's deadline passed before the work began: allow more time, or look for where it was spent"
)]
pub struct Late;

impl Caused for Late {
    fn cause(&self) -> Cause {
        Cause::Late
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use http::Response;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::context::Context;

    async fn serve(deadline: Option<Instant>) -> (Result<Response<Body>, BoxError>, u32) {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let handler = service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            ready(Ok::<_, BoxError>(Response::new(Body::empty())))
        });
        let context = Context {
            deadline,
            ..Context::default()
        };
        let served = DeadlineLayer.layer(handler);
        let result = context::scope(context, served.oneshot(Request::default())).await;
        (result, calls.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_late_never_reaches_the_handler() {
        let deadline = Instant::now();
        let (result, calls) = serve(Some(deadline)).await;
        assert!(result.expect_err("it is late").is::<Late>());
        assert_eq!(calls, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_time_or_without_a_deadline_is_done() {
        let deadline = Instant::now() + Duration::from_millis(1);
        assert_eq!(serve(Some(deadline)).await.1, 1);
        assert_eq!(serve(None).await.1, 1);
    }
}
