//! A response body on its way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_policy::balance::FAILURE_PENALTY;
use tokio::time::Instant;

use super::pace::Pace;
use super::{grpc_status, is_failure, is_ours};
use crate::answer::{self, Protocol};
use crate::layers::timeout::TimedOut;
use crate::plans::InFlight;
use crate::telemetry::Observation;
use crate::transport::pool::Held;
use crate::{Body, BoxError, header_list};

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
    mut observation: Observation,
    kept: Kept,
) -> Response<Body> {
    observation.answered(response.status(), response.headers());
    if response.body().is_end_stream() {
        kept.held.finish();
        // It is at its end already, so nothing needs to follow it.
        return response.map(Body::from);
    }
    response.map(|body| {
        Body::from(Delivery {
            body: Some(body),
            held: Some(kept.held),
            pace: kept.pace,
            protocol: kept.protocol,
            observation: Some(observation),
            in_flight: kept.in_flight,
        })
    })
}

/// A body that keeps its stream, counts as load until its end, and ends in time.
pub(crate) struct Delivery {
    /// `None` once a limit has passed.
    body: Option<Incoming>,
    held: Option<Held>,
    pace: Option<Box<Pace>>,
    protocol: Protocol,
    observation: Option<Observation>,
    in_flight: InFlight,
}

impl Delivery {
    /// Counts what `asked` watches as well; it saw the head of this response already.
    pub(crate) fn count_for(&mut self, asked: Observation) {
        if let Some(observation) = &mut self.observation {
            observation.count_for(asked);
        }
    }

    /// Tells the balancer that the response failed after its head.
    fn failed(&self) {
        self.in_flight.endpoint().observe_failure(Instant::now());
    }

    /// Whether these trailers say that the call failed.
    fn is_refused(&self, trailers: &Frame<Bytes>) -> bool {
        let grpc = match self.protocol {
            Protocol::Http => None,
            Protocol::Grpc => trailers.trailers_ref().and_then(grpc_status),
        };
        is_failure(StatusCode::OK.as_u16(), grpc)
    }

    /// Lets go of the stream; the caller learns why.
    fn end(&mut self, passed: TimedOut) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.failed();
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
        let frame = ready!(self.poll_next(cx));
        Observation::see(&mut self.observation, &frame);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(HttpBody::size_hint);
        hint.unwrap_or_default()
    }
}

impl Delivery {
    /// The next frame, or the end that a limit makes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            let passed = self.pace.as_mut().map(|pace| pace.poll(cx));
            return match passed {
                Some(Poll::Ready(passed)) => Poll::Ready(self.end(passed)),
                Some(Poll::Pending) | None => Poll::Pending,
            };
        };
        // Whoever asks `is_end_stream` may never poll for the `None`.
        let at_end = frame.is_none() || body.is_end_stream();
        match &frame {
            Some(Err(error)) if !is_ours(error) => self.failed(),
            Some(Ok(frame)) if frame.is_trailers() && self.is_refused(frame) => self.failed(),
            Some(Ok(_) | Err(_)) | None => {}
        }
        if at_end {
            if let Some(held) = self.held.take() {
                held.finish();
            }
        } else if let Some(pace) = &self.pace {
            if let Some(passed) = pace.is_over() {
                return Poll::Ready(self.end(passed));
            }
            pace.received();
        }
        let frame = frame.map(|frame| frame.map_err(Into::into));
        header_list::limit_trailers(Poll::Ready(frame))
    }
}

impl Drop for Delivery {
    /// A head alone is no answer: an endpoint that never sends the body must not look fast.
    ///
    /// The wait counts as a failure at most, since a stream may be silent for as long as
    /// there is nothing to say.
    fn drop(&mut self) {
        let (Some(_), Some(observation)) = (&self.held, &self.observation) else {
            return;
        };
        if !observation.has_data() {
            let now = Instant::now();
            let waited = (now - observation.started()).min(FAILURE_PENALTY);
            self.in_flight.endpoint().observe_unanswered(now, waited);
        }
    }
}
