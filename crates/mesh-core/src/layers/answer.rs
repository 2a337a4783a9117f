//! Turns errors into the responses that callers get.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::answer::{self, Audience, Cause, Caused, Protocol};
use crate::peer::Peer;
use crate::{Body, BoxError};

/// Answers a server's errors by the table of [`crate::answer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerLayer;

impl<S> Layer<S> for AnswerLayer {
    type Service = Answer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Answer {
            inner,
            failed: None,
        }
    }
}

/// An application's word that it has not touched a request: its caller may send it elsewhere,
/// whatever its method.
///
/// As the error of a handler it becomes HTTP/2's `REFUSED_STREAM` (RFC 9113, 8.7), which callers in
/// the mesh send again without being asked to. HTTP/1.1 has no word for it: there it is a 503.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the application did not take the request: send it to another endpoint")]
pub struct Unprocessed;

impl Caused for Unprocessed {
    fn cause(&self) -> Cause {
        Cause::Unprocessed
    }
}

/// The one thing that is no response: a stream that is refused.
#[derive(Debug, thiserror::Error)]
#[error("the stream is refused")]
pub struct StreamRefused(#[source] h2::Error);

impl StreamRefused {
    fn new() -> Self {
        Self(h2::Reason::REFUSED_STREAM.into())
    }
}

/// The service [`AnswerLayer`] makes.
#[derive(Debug)]
pub struct Answer<S> {
    inner: S,
    /// Why the inner service cannot be called, kept for the request that wants to.
    failed: Option<BoxError>,
}

impl<S: Clone> Clone for Answer<S> {
    fn clone(&self) -> Self {
        AnswerLayer.layer(self.inner.clone())
    }
}

impl<S> Service<Request<Body>> for Answer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    type Response = Response<Body>;
    type Error = StreamRefused;
    type Future = AnswerFuture<Gated<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamRefused>> {
        self.failed = ready!(self.inner.poll_ready(cx)).err();
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let known = peer.is_some_and(|peer| peer.identity().is_some());
        AnswerFuture {
            audience: if known {
                Audience::Peer
            } else {
                Audience::Stranger
            },
            protocol: Protocol::of(request.headers()),
            version: request.version(),
            response: match self.failed.take() {
                Some(error) => Gated::refused(error),
                None => Gated::passed(self.inner.call(request)),
            },
        }
    }
}

pin_project! {
    /// The future [`Answer`] returns.
    #[derive(Debug)]
    pub struct AnswerFuture<F> {
        #[pin]
        response: F,
        audience: Audience,
        protocol: Protocol,
        version: Version,
    }
}

impl<F> Future for AnswerFuture<F>
where
    F: Future<Output = Result<Response<Body>, BoxError>>,
{
    type Output = Result<Response<Body>, StreamRefused>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match ready!(this.response.poll(cx)) {
            Ok(response) => return Poll::Ready(Ok(response)),
            Err(error) => error,
        };
        let cause = Cause::of(&*error);
        tracing::debug!(%error, reason = cause.reason(), "a request was answered with an error");
        if cause == Cause::Unprocessed && *this.version == Version::HTTP_2 {
            return Poll::Ready(Err(StreamRefused::new()));
        }
        let mut response = answer::respond(&*error, *this.protocol, *this.audience);
        let stranger = *this.audience == Audience::Stranger && cause == Cause::Denied;
        let closes = stranger || cause == Cause::BodySilent;
        // HTTP/2 knows no such header: there a stream ends alone, or the connection is told to.
        if closes && *this.version < Version::HTTP_2 {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use tower::ServiceExt;

    use super::*;

    /// Is never ready, and must not be called.
    #[derive(Clone)]
    struct Broken;

    impl Service<Request<Body>> for Broken {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = Ready<Result<Response<Body>, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("broken".into()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it never said that it is ready")
        }
    }

    #[tokio::test]
    async fn an_application_that_is_not_ready_answers_500_and_is_not_called() {
        let served = AnswerLayer.layer(Broken).oneshot(Request::default()).await;
        assert_eq!(served.expect("an answer").status(), 500);
    }
}
