//! Holds the head of a gRPC response until its first frame is there.
//!
//! A call that fails before its first message may say so in trailers, behind a head that says
//! nothing. As long as the head is held nothing has reached the caller, so that such a call is
//! tried again like one whose head has the status. A stream may have its first message much
//! later, or never, and its caller waits for the head: so the wait is bounded.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{Body, BoxError};

/// A response whose first frame is awaited.
pub(super) struct FirstFrame {
    response: Response<Body>,
    /// When the head is passed on without it.
    until: Pin<Box<Sleep>>,
}

impl FirstFrame {
    /// Holds `response` no longer than `until`.
    pub(super) fn of(response: Response<Body>, until: Instant) -> Box<Self> {
        let until = Box::pin(sleep_until(until));
        Box::new(Self { response, until })
    }

    /// The response, and its trailers if they came first. It is polled no more after that.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(Response<Body>, Option<HeaderMap>)> {
        let first = match Pin::new(self.response.body_mut()).poll_frame(cx) {
            Poll::Ready(first) => first,
            // A limit of the request may pass at the same moment, and is looked at after this.
            Poll::Pending if self.until.deadline() <= Instant::now() => None,
            Poll::Pending => {
                if self.until.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                None
            }
        };
        let trailers = match &first {
            Some(Ok(frame)) => frame.trailers_ref().cloned(),
            Some(Err(_)) | None => None,
        };
        let mut response = std::mem::take(&mut self.response);
        if first.is_some() {
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = Body::new(Begun { first, body });
        }
        Poll::Ready((response, trailers))
    }
}

/// A body of which one frame was read.
struct Begun {
    first: Option<Result<Frame<Bytes>, BoxError>>,
    body: Body,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What is read of a gRPC call says its own length.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    type Read = Result<Frame<Bytes>, BoxError>;

    fn response(frames: impl futures_util::Stream<Item = Read> + Send + 'static) -> Response<Body> {
        Response::new(Body::new(StreamBody::new(frames)))
    }

    fn status() -> HeaderMap {
        HeaderMap::from_iter([(crate::answer::GRPC_STATUS, 14.into())])
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_comes_first_comes_out_first_and_trailers_are_shown() {
        let data = || Ok(Frame::data(Bytes::from_static(b"a")));
        let later = Instant::now() + std::time::Duration::from_secs(1);
        for (frames, shown, data) in [
            (vec![data(), Ok(Frame::trailers(status()))], None, "a"),
            (vec![Ok(Frame::trailers(status()))], Some(status()), ""),
            (vec![], None, ""),
        ] {
            let ends = !frames.is_empty();
            let mut held = FirstFrame::of(response(futures_util::stream::iter(frames)), later);
            let (response, trailers) = std::future::poll_fn(|cx| held.poll(cx)).await;
            assert_eq!(trailers, shown);
            let whole = response.into_body().collect().await.expect("whole");
            assert_eq!(whole.trailers().cloned(), ends.then(status));
            assert_eq!(whole.to_bytes(), data);
        }
        let breaks = futures_util::stream::iter([Err::<Frame<Bytes>, BoxError>("cut".into())]);
        let mut held = FirstFrame::of(response(breaks), later);
        let (response, trailers) = std::future::poll_fn(|cx| held.poll(cx)).await;
        assert!(trailers.is_none() && response.into_body().collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_says_nothing_is_passed_on_in_time() {
        let begun = Instant::now();
        let limit = std::time::Duration::from_secs(1);
        let silent = futures_util::stream::pending::<Read>().chain(futures_util::stream::empty());
        let mut held = FirstFrame::of(response(silent), begun + limit);
        let (_, trailers) = std::future::poll_fn(|cx| held.poll(cx)).await;
        assert_eq!((trailers, begun.elapsed()), (None, limit));
    }
}
