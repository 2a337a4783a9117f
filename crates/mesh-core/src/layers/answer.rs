//! Turns errors into the responses that callers get.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::answer::{self, Audience, Cause, Protocol};
use crate::peer::Peer;
use crate::{Body, BoxError};

/// Answers a server's errors by the table of [`crate::answer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerLayer;

impl<S> Layer<S> for AnswerLayer {
    type Service = Answer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Answer { inner }
    }
}

/// The service [`AnswerLayer`] makes.
#[derive(Clone, Debug)]
pub struct Answer<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Answer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A service that is not ready for good says so again when it is called.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

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
            response: self.inner.call(request),
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
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let error = match ready!(this.response.poll(cx)) {
            Ok(response) => return Poll::Ready(Ok(response)),
            Err(error) => error,
        };
        let cause = Cause::of(&*error);
        tracing::debug!(%error, reason = cause.reason(), "a request was answered with an error");
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
