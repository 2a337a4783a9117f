//! A response body on its way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Empty;
use hyper::body::Incoming;

use super::pace::Pace;
use crate::answer::{self, Protocol};
use crate::layers::timeout::TimedOut;
use crate::plans::InFlight;
use crate::telemetry::Observation;
use crate::transport::pool::Held;
use crate::{Body, BoxError};

/// What a response keeps until its end.
pub(super) struct Kept {
    pub(super) held: Held,
    pub(super) in_flight: InFlight,
    pub(super) pace: Option<Box<Pace>>,
    pub(super) protocol: Protocol,
}

/// Gives the response to the caller, watched to its end.
pub(super) fn deliver(
    response: Response<Incoming>,
    observation: Observation,
    kept: Kept,
) -> Response<Body> {
    if response.body().is_end_stream() {
        kept.held.finish();
        // It is at its end already, so nothing needs to follow it.
        let (head, body) = response.into_parts();
        let observed = observation.respond(Response::from_parts(head, Empty::<Bytes>::new()));
        return observed.map(|_| Body::from(body));
    }
    let response = response.map(|body| Delivery {
        body: Some(body),
        held: Some(kept.held),
        pace: kept.pace,
        protocol: kept.protocol,
        _in_flight: kept.in_flight,
    });
    observation.respond(response).map(Body::new)
}

/// A body that keeps its stream, counts as load until its end, and ends in time.
struct Delivery {
    /// `None` once a limit has passed.
    body: Option<Incoming>,
    held: Option<Held>,
    pace: Option<Box<Pace>>,
    protocol: Protocol,
    _in_flight: InFlight,
}

impl Delivery {
    /// Lets go of the stream; the caller learns why.
    fn end(&mut self, passed: TimedOut) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.body = None;
        self.pace = None;
        // Dropped unfinished: an HTTP/1.1 connection with half a response on it closes.
        self.held = None;
        Some(match self.protocol {
            Protocol::Grpc => Ok(Frame::trailers(answer::trailers(&passed))),
            Protocol::Http => Err(passed.into()),
        })
    }
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            let passed = this.pace.as_mut().map(|pace| pace.poll(cx));
            return match passed {
                Some(Poll::Ready(passed)) => Poll::Ready(this.end(passed)),
                Some(Poll::Pending) | None => Poll::Pending,
            };
        };
        // Whoever asks `is_end_stream` may never poll for the `None`.
        if frame.is_none() || body.is_end_stream() {
            if let Some(held) = this.held.take() {
                held.finish();
            }
        } else if let Some(pace) = &this.pace {
            if let Some(passed) = pace.is_over() {
                return Poll::Ready(this.end(passed));
            }
            pace.received();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(HttpBody::size_hint);
        hint.unwrap_or_default()
    }
}
