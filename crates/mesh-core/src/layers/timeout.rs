//! Gives up a request that has no response when its time is over.
//!
//! The limit is that of the request's rule, or else of the layer; what the caller
//! of this process still waits caps it, since nobody reads a later answer. What
//! holds after the headers is kept by the step that reads the response's body.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request};
use mesh_policy::timeout::Timeouts;
use mesh_policy::{deadline, duration};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::deadline::Late;
use super::inbound_context::GRPC_TIMEOUT;
use crate::answer::{Cause, Caused};
use crate::context::{self, Context as Inherited};
use crate::outbound::Outgoing;
use crate::{Body, BoxError};

/// Limits the time from the call to the response headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutLayer {
    limit: Option<Duration>,
}

impl TimeoutLayer {
    /// Allows `limit` where the request's rule says nothing else; `None` allows any time.
    #[must_use]
    pub const fn new(limit: Option<Duration>) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout {
            inner,
            limit: self.limit,
        }
    }
}

/// The service [`TimeoutLayer`] makes.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limit: Option<Duration>,
}

impl<S> Timeout<S> {
    /// What a call that says so in its headers, and is ruled so, may take from `now` on.
    fn allowance(&self, headers: &HeaderMap, ruled: Timeouts, now: Instant) -> Allowance {
        let said = said_in(headers);
        let own = [
            (ruled.request.or(self.limit), Limit::Request),
            (ruled.stream, Limit::Stream),
            (said, Limit::Grpc),
        ];
        let own = own.into_iter().filter_map(|(limit, of)| Some((limit?, of)));
        // A gRPC deadline is that of the whole call (gRPC over HTTP/2, "Call-Definition").
        let whole = [(ruled.stream, Limit::Stream), (said, Limit::Grpc)];
        let whole = whole.into_iter().filter_map(|(limit, of)| {
            let at = now.checked_add(limit?)?;
            Some((at, of))
        });
        Allowance {
            now,
            own: own.min_by_key(|(limit, _)| *limit),
            lifetime: whole.min_by_key(|(at, _)| *at),
        }
    }
}

/// What a call may take.
struct Allowance {
    now: Instant,
    /// To its headers.
    own: Option<(Duration, Limit)>,
    /// To its end.
    lifetime: Option<(Instant, Limit)>,
}

impl Allowance {
    /// Until when anybody waits for the headers.
    fn until(&self, inherited: Option<Instant>) -> Option<Instant> {
        let own = self.own.map(|(limit, _)| limit);
        let inherited = inherited.map(Instant::into_std);
        deadline::cap(own, inherited, self.now.into_std()).map(Instant::from_std)
    }

    /// A response that is waited for `until` then; `None` if it is late already.
    fn wait<F>(&self, until: Option<Instant>, send: impl FnOnce() -> F) -> TimeoutFuture<F> {
        let late = until.is_some_and(|until| until <= self.now);
        let after = until.map_or(Duration::ZERO, |until| until - self.now);
        let of = match self.own {
            Some((limit, of)) if limit <= after => of,
            _ => Limit::Inherited,
        };
        TimeoutFuture {
            response: (!late).then(send),
            sleep: until.map(tokio::time::sleep_until),
            passed: TimedOut::new(of, after),
        }
    }
}

impl<S> Service<Request<Body>> for Timeout<S>
where
    S: Service<Request<Body>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let allowance = self.allowance(request.headers(), Timeouts::default(), Instant::now());
        let inherited = match request.extensions().get::<Inherited>() {
            Some(context) => context.deadline,
            None => context::with(|context| context.deadline),
        };
        let until = allowance.until(inherited);
        allowance.wait(until, || self.inner.call(request))
    }
}

/// Inside the stack, where the request's rule says what it may take.
impl<S> Service<Box<Outgoing>> for Timeout<S>
where
    S: Service<Box<Outgoing>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut outgoing: Box<Outgoing>) -> Self::Future {
        let Outgoing { request, call } = &mut *outgoing;
        let ruled = call.rule().map(|rule| rule.timeouts).unwrap_or_default();
        let allowance = self.allowance(request.headers(), ruled, call.begun());
        let inherited = request.extensions().get::<Inherited>();
        let until = allowance.until(inherited.and_then(|context| context.deadline));
        call.set_lifetime(until, allowance.lifetime);
        allowance.wait(until, || self.inner.call(outgoing))
    }
}

/// What a gRPC caller allows; one that cannot be read allows any time.
fn said_in(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    duration::grpc::parse(text).ok()
}

pin_project! {
    /// The future [`Timeout`] returns.
    #[derive(Debug)]
    pub struct TimeoutFuture<F> {
        // `None` when there was no time left to send the request.
        #[pin]
        response: Option<F>,
        #[pin]
        sleep: Option<Sleep>,
        passed: TimedOut,
    }
}

impl<F, Response> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Response, BoxError>>,
{
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(response) = this.response.as_pin_mut() else {
            return Poll::Ready(Err(Late.into()));
        };
        // The response is polled first: one that is ready at the deadline counts.
        if let Poll::Ready(result) = response.poll(cx) {
            return Poll::Ready(result);
        }
        let passed = *this.passed;
        match this.sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| Err(passed.into())),
            None => Poll::Pending,
        }
    }
}

/// What limits the time of a request, by the name under which people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// From the call to the response headers, retries included.
    Request,
    /// What the request being served has left.
    Inherited,
    /// What a gRPC caller said.
    Grpc,
    /// One try, to the end of its response.
    BackendRequest,
    /// One try, to its response headers.
    ResponseHeaders,
    /// One try, from the end of its request to the end of its response.
    Response,
    /// From the call to the end of the response, retries included.
    Stream,
    /// No frame came or went.
    Idle,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "timeouts.request",
            Self::Inherited => "the deadline of the request being served",
            Self::Grpc => "grpc-timeout",
            Self::BackendRequest => "timeouts.backendRequest",
            Self::ResponseHeaders => "retry.linkerd.io/timeout",
            Self::Response => "timeout.linkerd.io/response",
            Self::Stream => "timeout.linkerd.io/request",
            Self::Idle => "timeout.linkerd.io/idle",
        })
    }
}

/// A request, or a try, ran past a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not done after {after:?}, by {limit}: allow more there, or look for what took the time")]
pub struct TimedOut {
    limit: Limit,
    after: Duration,
}

impl TimedOut {
    /// `limit` passed `after` the beginning.
    pub(crate) const fn new(limit: Limit, after: Duration) -> Self {
        Self { limit, after }
    }

    /// Which limit it was.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }
}

impl Caused for TimedOut {
    fn cause(&self) -> Cause {
        Cause::Timeout
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tokio_test::{assert_pending, assert_ready_err};
    use tower_test::mock;

    use super::*;

    type Reply = Response<Body>;
    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn a_silent_backend_is_given_up_at_the_limit() {
        let layer = TimeoutLayer::new(Some(LIMIT));
        let (mut service, mut backend) = mock::spawn_layer::<Request<Body>, Reply, _>(layer);
        backend.allow(1);
        assert!(service.poll_ready().is_ready());
        let mut call = tokio_test::task::spawn(service.call(Request::default()));
        let _held = backend.next_request().await.expect("it is sent");
        assert_pending!(call.poll());
        tokio::time::advance(LIMIT - Duration::from_millis(1)).await;
        assert_pending!(call.poll());
        tokio::time::advance(Duration::from_millis(1)).await;
        let error = assert_ready_err!(call.poll());
        let passed = TimedOut::new(Limit::Request, LIMIT);
        assert_eq!(error.downcast_ref(), Some(&passed));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_caller_still_waits_caps_the_limit() {
        let layer = TimeoutLayer::new(Some(LIMIT));
        let (mut service, mut backend) = mock::spawn_layer::<Request<Body>, Reply, _>(layer);
        backend.allow(1);
        assert!(service.poll_ready().is_ready());
        let inherited = context::Context {
            deadline: Some(Instant::now() + LIMIT / 2),
            ..context::Context::default()
        };
        let call = context::enter(inherited, || service.call(Request::default()));
        let error = call.await.expect_err("nobody answers");
        let passed = TimedOut::new(Limit::Inherited, LIMIT / 2);
        assert_eq!(error.downcast_ref(), Some(&passed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_late_already_is_never_sent() {
        let layer = TimeoutLayer::default();
        let (mut service, mut backend) = mock::spawn_layer::<Request<Body>, Reply, _>(layer);
        backend.allow(1);
        assert!(service.poll_ready().is_ready());
        let inherited = context::Context {
            deadline: Some(Instant::now()),
            ..context::Context::default()
        };
        let call = context::enter(inherited, || service.call(Request::default()));
        assert!(call.await.expect_err("it is late").is::<Late>());
        let sent = tokio_test::task::spawn(backend.next_request())
            .poll()
            .is_ready();
        assert!(!sent, "it was sent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grpc_timeout_is_a_limit_too() {
        let layer = TimeoutLayer::default();
        let (mut service, mut backend) = mock::spawn_layer::<Request<Body>, Reply, _>(layer);
        backend.allow(1);
        assert!(service.poll_ready().is_ready());
        let request = Request::builder().header(GRPC_TIMEOUT, "20m");
        let request = request.body(Body::empty()).expect("it is well formed");
        let error = service.call(request).await.expect_err("nobody answers");
        let passed = TimedOut::new(Limit::Grpc, Duration::from_millis(20));
        assert_eq!(error.downcast_ref(), Some(&passed));
    }
}
