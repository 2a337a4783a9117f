//! Follows one request from its start to the end of its response.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::errors::ended_by;
use super::requests::{Outcome, RequestMetrics};
use crate::BoxError;
use crate::answer::{Cause, Protocol, REASON_HEADER};

/// What the mesh itself makes of a response after its head.
const TOO_LARGE: Cause = Cause::TrailersTooLarge;

/// What a body gives when it is asked for a frame.
type Polled<D, E> = Option<Result<Frame<D>, E>>;

/// A request being watched; counts its outcome once, at the latest when dropped.
///
/// A request whose caller goes away before there is a response has no outcome.
#[derive(Debug)]
pub struct Observation {
    metrics: Arc<RequestMetrics>,
    /// Series that count the same.
    also: Option<Arc<RequestMetrics>>,
    /// Series that count the same, of a request that began earlier: this is its last try.
    asked: Option<(Arc<RequestMetrics>, Instant)>,
    started: Instant,
    protocol: Protocol,
    /// What is known of the outcome; `None` before the response and after it was counted.
    outcome: Option<Outcome>,
    first_data: Option<Instant>,
}

impl Observation {
    /// Counts a request and begins to watch it.
    #[must_use]
    pub fn start(metrics: Arc<RequestMetrics>, protocol: Protocol) -> Self {
        Self::start_at(Instant::now(), metrics, protocol)
    }

    /// Counts a request that began at `started`, and begins to watch it.
    pub(crate) fn start_at(
        started: Instant,
        metrics: Arc<RequestMetrics>,
        protocol: Protocol,
    ) -> Self {
        metrics.count_request();
        Self {
            metrics,
            also: None,
            asked: None,
            started,
            protocol,
            outcome: None,
            first_data: None,
        }
    }

    /// Counts into `metrics` as well.
    pub(crate) fn and(self, metrics: Arc<RequestMetrics>) -> Self {
        metrics.count_request();
        let mut both = self;
        both.also = Some(metrics);
        both
    }

    /// When the request began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether data of the response has come.
    pub(crate) const fn has_data(&self) -> bool {
        self.first_data.is_some()
    }

    /// The mesh answers the request itself.
    pub(crate) fn answered_for(&self, cause: Cause) {
        self.metrics.count_error(cause);
    }

    /// The head of the response is there.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.outcome = Some(Outcome {
            status: Some(status.as_u16()),
            grpc_status: self.grpc_status(headers),
            error: "",
        });
    }

    /// Counts what `asked` watches with the same response, of which this is the last try.
    pub(crate) fn count_for(&mut self, mut asked: Self) {
        asked.outcome = None;
        self.asked = Some((Arc::clone(&asked.metrics), asked.started));
    }

    /// Watches the response to its end.
    pub fn respond<B: Body>(mut self, response: Response<B>) -> Response<Observed<B>> {
        self.answered(response.status(), response.headers());
        response.map(|body| {
            let observation = if body.is_end_stream() {
                drop(self);
                None
            } else {
                Some(self)
            };
            Observed { body, observation }
        })
    }

    /// Counts a request that ended without a response. `error` is Linkerd's word for why:
    /// `timeout`, `h2(REASON)` or `unclassified`.
    pub fn fail(mut self, error: &'static str) {
        self.outcome = Some(Outcome {
            status: None,
            grpc_status: None,
            error,
        });
    }

    fn grpc_status(&self, headers: &HeaderMap) -> Option<u16> {
        match self.protocol {
            Protocol::Http => None,
            Protocol::Grpc => headers.get("grpc-status")?.to_str().ok()?.parse().ok(),
        }
    }

    /// Watches what a body gives; `place` is empty once that was its end.
    pub(crate) fn see<D, E: 'static>(place: &mut Option<Self>, polled: &Polled<D, E>) {
        let Some(observation) = place else {
            return;
        };
        match polled {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => observation.see_trailers(trailers),
                None => {
                    observation.first_data.get_or_insert_with(Instant::now);
                }
            },
            Some(Err(error)) => observation.breaks(error),
            None => *place = None,
        }
    }

    fn see_trailers(&mut self, headers: &HeaderMap) {
        if headers
            .get(REASON_HEADER)
            .is_some_and(|reason| reason == TOO_LARGE.reason())
        {
            self.metrics.count_error(TOO_LARGE);
        }
        let status = self.grpc_status(headers);
        if let Some(outcome) = &mut self.outcome {
            outcome.grpc_status = status.or(outcome.grpc_status);
        }
    }

    fn breaks(&mut self, error: &dyn Any) {
        let known = error.downcast_ref::<BoxError>();
        if known.is_some_and(|error| Cause::of(&**error) == TOO_LARGE) {
            self.metrics.count_error(TOO_LARGE);
        }
        if let Some(outcome) = &mut self.outcome {
            outcome.error = known.map_or("unclassified", |error| ended_by(&**error));
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            let first = self.first_data.unwrap_or_else(Instant::now);
            let latency = outcome.status.map(|_| first - self.started);
            self.metrics.count_outcome(outcome, latency);
            if let Some(also) = &self.also {
                also.count_outcome(outcome, latency);
            }
            if let Some((asked, began)) = &self.asked {
                let latency = outcome.status.map(|_| first - *began);
                asked.count_outcome(outcome, latency);
            }
        }
    }
}

pin_project! {
    /// A response body whose first data, trailers and end are observed.
    #[derive(Debug)]
    pub struct Observed<B> {
        #[pin]
        body: B,
        observation: Option<Observation>,
    }
}

impl<B> Observed<B> {
    /// A body that `observation` watches.
    pub(crate) const fn watched(body: B, observation: Observation) -> Self {
        Self {
            body,
            observation: Some(observation),
        }
    }

    /// A body that nobody watches.
    pub(crate) const fn unobserved(body: B) -> Self {
        Self {
            body,
            observation: None,
        }
    }
}

impl<B> Body for Observed<B>
where
    B: Body,
    B::Error: 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = ready!(this.body.poll_frame(cx));
        Observation::see(this.observation, &polled);
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;
    use crate::telemetry::{Metrics, Recorder};

    fn watch(protocol: Protocol) -> (Recorder, Observation) {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        let metrics = Arc::new(RequestMetrics::new(&recorder, Vec::new()));
        (recorder, Observation::start(metrics, protocol))
    }

    #[tokio::test(start_paused = true)]
    async fn latency_runs_to_the_first_data_frame() {
        let (recorder, observation) = watch(Protocol::Http);
        tokio::time::advance(Duration::from_millis(7)).await;
        let response = observation.respond(Response::new(Full::new(Bytes::from_static(b"a"))));
        let mut body = response.into_body();
        tokio::time::advance(Duration::from_millis(8)).await;
        let frame = body.frame().await;
        assert!(frame.is_some());
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(body);
        let text = recorder.render();
        assert!(
            text.contains(r#"response_latency_ms_sum{status_code="200"} 15"#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_grpc_status_in_the_trailers_decides() {
        let (recorder, observation) = watch(Protocol::Grpc);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "14".parse().expect("a header value"));
        let frames = [
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"a"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let response = observation.respond(Response::new(body));
        response.into_body().collect().await.expect("no error");
        let text = recorder.render();
        assert!(
            text.contains(r#"classification="failure",grpc_status="14""#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_response_that_breaks_is_a_failure_whatever_its_status() {
        let (recorder, observation) = watch(Protocol::Http);
        let frames = [Err::<Frame<Bytes>, _>(std::io::Error::other("cut"))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let response = observation.respond(Response::new(body));
        assert!(response.into_body().collect().await.is_err());
        let text = recorder.render();
        assert!(
            text.contains(r#"status_code="200",classification="failure""#),
            "{text}"
        );
    }

    #[test]
    fn a_request_without_a_response_has_an_outcome_only_if_it_failed() {
        let (recorder, observation) = watch(Protocol::Http);
        drop(observation);
        assert!(!recorder.render().contains("response_total{"));
        let (recorder, observation) = watch(Protocol::Http);
        observation.fail("timeout");
        let text = recorder.render();
        assert!(
            text.contains(
                r#"status_code="",classification="failure",grpc_status="",error="timeout"} 1"#
            ),
            "{text}"
        );
    }
}
