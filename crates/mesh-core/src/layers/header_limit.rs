//! Holds what a server takes and what it answers to the limit of [`crate::header_list`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::{Body, BoxError, header_list};

/// Refuses requests and responses whose heads are larger than any process of the mesh takes.
///
/// Trailers need no layer: [`Body`] holds its own to the same limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderLimitLayer;

impl<S> Layer<S> for HeaderLimitLayer {
    type Service = HeaderLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HeaderLimit { inner }
    }
}

/// The service [`HeaderLimitLayer`] makes.
#[derive(Clone, Debug)]
pub struct HeaderLimit<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for HeaderLimit<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = HeaderLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        HeaderLimitFuture {
            response: match header_list::check_received(&request) {
                Ok(()) => Gated::passed(self.inner.call(request)),
                Err(too_large) => Gated::refused(too_large),
            },
        }
    }
}

pin_project! {
    /// The future [`HeaderLimit`] returns.
    #[derive(Debug)]
    pub struct HeaderLimitFuture<F> {
        #[pin]
        response: Gated<F>,
    }
}

impl<F, B> Future for HeaderLimitFuture<F>
where
    F: Future<Output = Result<Response<B>, BoxError>>,
{
    type Output = Result<Response<B>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().response.poll(cx))?;
        header_list::check_response(&response)?;
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::answer::Cause;
    use crate::header_list::{MAX_BYTES, MAX_FIELDS, TooLarge};
    use crate::layers::peer::CLIENT_ID;

    /// `:method GET`, `:path /` and the overhead of each.
    const REQUEST_LINE: usize = 10 + 32 + 6 + 32;
    /// `:status 200` and its overhead.
    const STATUS_LINE: usize = 10 + 32;
    /// A field named `x` without a value.
    const FIELD: usize = 1 + 32;

    /// The answer to a request with a field of `asked` bytes is one with a field of `answered`.
    async fn ended(asked: usize, answered: usize) -> Result<(), Cause> {
        let filled = |bytes| HeaderValue::from_maybe_shared(bytes::Bytes::from(vec![b'a'; bytes]));
        let inner = service_fn(move |_: Request<Body>| async move {
            let mut response = Response::new(Body::empty());
            let value = filled(answered).expect("letters");
            response.headers_mut().insert("x", value);
            Ok::<_, BoxError>(response)
        });
        let mut request = Request::new(Body::empty());
        request
            .headers_mut()
            .insert("x", filled(asked).expect("letters"));
        // It came after the wire, so that it does not count.
        let name = HeaderValue::from_static("spiffe://mesh.local/ns/shop/sa/web");
        request.headers_mut().insert(CLIENT_ID, name);
        let answer = HeaderLimitLayer.layer(inner).oneshot(request).await;
        answer.map(drop).map_err(|error| Cause::of(&*error))
    }

    #[tokio::test]
    async fn h06_the_last_byte_within_the_limit_passes_and_the_next_does_not() {
        let request = MAX_BYTES - REQUEST_LINE - FIELD;
        let response = MAX_BYTES - STATUS_LINE - FIELD;
        assert_eq!(ended(request, response).await, Ok(()));
        let too_much = ended(request + 1, response).await;
        assert_eq!(too_much, Err(Cause::RequestHeadTooLarge));
        let too_much = ended(request, response + 1).await;
        assert_eq!(too_much, Err(Cause::ResponseHeadTooLarge));
    }

    #[tokio::test]
    async fn h06_fields_are_counted_too() {
        let inner = service_fn(|_: Request<Body>| async {
            Ok::<_, BoxError>(Response::new(Body::empty()))
        });
        // Method and path are two more.
        for (fields, passes) in [(MAX_FIELDS - 2, true), (MAX_FIELDS - 1, false)] {
            let mut request = Request::new(Body::empty());
            for _ in 0..fields {
                let value = HeaderValue::from_static("");
                request.headers_mut().append("x", value);
            }
            let answer = HeaderLimitLayer.layer(inner).oneshot(request).await;
            let refused = answer.err().map(|error| error.is::<TooLarge>());
            assert_eq!(refused, (!passes).then_some(true), "{fields}");
        }
    }
}
