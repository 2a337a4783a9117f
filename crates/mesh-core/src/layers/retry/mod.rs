//! Tries a request again where that is safe, asked for and paid for.
//!
//! Whether and when is decided in [`mesh_policy::retry`]; here a copy is kept, the
//! tries are made, and what became of them is counted. Each try passes the steps
//! below anew, so that it goes to another endpoint if there is one. A response that
//! reached the caller ends it all: this step's future is done by then. Where gRPC's statuses
//! are listed it keeps the head until the first frame, which may be trailers.

mod first_frame;
mod replay;
mod series;
mod tries;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Response};
use mesh_policy::retry::{Charge, Decision, Retry as Again, Why};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

use first_frame::FirstFrame;
pub(crate) use series::Series;
pub(crate) use tries::Unsent;
use tries::{Hold, Tries};

use crate::outbound::Outgoing;
use crate::{Body, BoxError};

/// Tries requests again by the rules of their plans.
#[derive(Clone, Debug)]
pub(crate) struct RetryLayer {
    series: Arc<Series>,
    replay_limit: usize,
}

impl RetryLayer {
    /// Keeps `replay_limit` bytes of a body, and counts what becomes of retries in `series`.
    pub(crate) const fn new(series: Arc<Series>, replay_limit: usize) -> Self {
        Self {
            series,
            replay_limit,
        }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry {
            inner,
            series: Arc::clone(&self.series),
            replay_limit: self.replay_limit,
        }
    }
}

/// The service [`RetryLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct Retry<S> {
    inner: S,
    series: Arc<Series>,
    replay_limit: usize,
}

impl<S> Service<Box<Outgoing>> for Retry<S>
where
    S: Service<Box<Outgoing>, Response = Response<Body>, Error = BoxError> + Clone,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = RetryFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut outgoing: Box<Outgoing>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let call = &outgoing.call;
        call.budget().deposit(call.begun().into_std());
        let tries = Tries::begin(&mut outgoing, self.replay_limit);
        tries.note_last(&mut outgoing.call);
        RetryFuture {
            trying: Some(inner.call(outgoing)),
            held: None,
            wait: None,
            again: None,
            inner,
            tries,
            series: Arc::clone(&self.series),
        }
    }
}

pin_project! {
    /// The future [`Retry`] returns.
    pub(crate) struct RetryFuture<S: Service<Box<Outgoing>>> {
        // `None` between two tries.
        #[pin]
        trying: Option<S::Future>,
        // The response of this try, while its first frame is awaited.
        held: Option<Box<FirstFrame>>,
        // Before the next try.
        wait: Option<Pin<Box<Sleep>>>,
        again: Option<Box<Outgoing>>,
        inner: S,
        tries: Box<Tries>,
        series: Arc<Series>,
    }
}

type Ended = Result<Response<Body>, BoxError>;
type Tried = (Ended, Option<HeaderMap>);

impl<S> Future for RetryFuture<S>
where
    S: Service<Box<Outgoing>, Response = Response<Body>, Error = BoxError>,
{
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut this = self.project();
        loop {
            let mut tried = None;
            if let Some(trying) = this.trying.as_mut().as_pin_mut() {
                let ended = ready!(trying.poll(cx));
                this.trying.set(None);
                match this.tries.hold(ended) {
                    Hold::Pass(ended) => tried = Some((ended, None)),
                    Hold::Wait(held) => *this.held = Some(held),
                }
            }
            if let Some(held) = this.held.as_mut() {
                let (response, trailers) = ready!(held.poll(cx));
                *this.held = None;
                tried = Some((Ok(response), trailers));
            }
            if let Some(tried) = tried {
                match step(this.tries, tried, this.series) {
                    Next::Done(ended) => return Poll::Ready(ended),
                    Next::Again(again, outgoing) => {
                        *this.again = Some(outgoing);
                        *this.wait = (!again.after.is_zero()).then(|| Box::pin(sleep(again.after)));
                    }
                }
            }
            if let Some(wait) = this.wait.as_mut() {
                ready!(wait.as_mut().poll(cx));
            }
            ready!(this.inner.poll_ready(cx))?;
            let outgoing = this.again.take();
            let mut outgoing = outgoing.expect("a future is not polled after its end");
            let now = Instant::now();
            outgoing.call.begin_try(now);
            this.tries.begin_try(now);
            this.trying.set(Some(this.inner.call(outgoing)));
        }
    }
}

enum Next {
    Done(Ended),
    Again(Again, Box<Outgoing>),
}

/// What follows a try that has ended, with trailers if they came first.
fn step(tries: &mut Tries, (mut ended, trailers): Tried, series: &Series) -> Next {
    let unsent = tries::take_unsent(&mut ended);
    let decision = tries.decide(&ended, trailers.as_ref(), unsent.is_some());
    let paid = match decision {
        Decision::Retry(again) if again.charge == Charge::Budget => {
            let granted = tries.call().budget().withdraw(Instant::now().into_std());
            if granted {
                decision
            } else {
                Decision::Stop(Why::Budget)
            }
        }
        other => other,
    };
    match paid {
        Decision::Retry(again) => {
            if let Some(outgoing) = tries.next(again, unsent) {
                series.sent(tries.call());
                return Next::Again(again, outgoing);
            }
            series.stopped(tries.call(), Why::BodyStreaming);
        }
        Decision::Stop(why) => series.stopped(tries.call(), why),
        Decision::Keep if tries.are_many() => series.succeeded(tries.call()),
        Decision::Keep => {}
    }
    Next::Done(tries::told(ended))
}
