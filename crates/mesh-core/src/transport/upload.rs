//! The body of a request as it came over the wire.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::activity::InFlight;
use crate::layers::peer::strip;

/// A received request body, whose trailers name nobody: some servers read them as headers.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Incoming,
    /// Until the end is there, which may be after that of the response.
    in_flight: Option<InFlight>,
}

impl Upload {
    /// A body that keeps its request in flight.
    pub(crate) fn new(body: Incoming, in_flight: &InFlight) -> Self {
        let in_flight = (!body.is_end_stream()).then(|| in_flight.clone());
        Self { body, in_flight }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    strip(trailers);
                }
                if self.body.is_end_stream() {
                    self.in_flight = None;
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.in_flight = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
