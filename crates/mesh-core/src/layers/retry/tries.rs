//! The tries of one request: what is kept of it, and how each of them ended.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body as _;
use mesh_policy::deadline;
use mesh_policy::draw::Draw;
use mesh_policy::pushback::Pushback;
use mesh_policy::retry::{
    CallKind, Decision, Facts, Failure, Outcome, Replay, Retry as Again, RetryPolicy, Why,
};
use tokio::time::Instant;

use super::Ended;
use super::first_frame::FirstFrame;
use super::replay::Kept;
use crate::answer::{Cause, Protocol};
use crate::context::Context;
use crate::header_list::TooLarge;
use crate::layers::endpoint::{ConnectionBroke, InvalidResponse};
use crate::layers::inbound_context::ATTEMPT;
use crate::layers::timeout::TimedOut;
use crate::outbound::{Call, Outgoing};
use crate::transport::ConnectFailed;
use crate::{Body, BoxError};

/// How long the head of a gRPC response waits for its first frame where nothing else limits it.
const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// What becomes of a response at first.
pub(super) enum Hold {
    Pass(Ended),
    Wait(Box<FirstFrame>),
}

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Tries {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
    body: Kept,
    /// As it was before this try had a backend.
    call: Call,
    protocol: Protocol,
    /// What the caller of this process said of its own tries.
    inherited: u32,
}

impl Tries {
    /// Keeps what another try needs; `first` is sent as it is now.
    pub(super) fn begin(first: &mut Outgoing, limit: usize) -> Box<Self> {
        let Outgoing { request, call } = first;
        let (body, kept) = Kept::of(std::mem::take(request.body_mut()), limit);
        *request.body_mut() = body;
        let inherited = request.extensions().get::<Context>();
        Box::new(Self {
            method: request.method().clone(),
            protocol: call.protocol(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
            body: kept,
            inherited: inherited.map_or(0, |context| context.attempt),
            call: call.clone(),
        })
    }

    /// The request as its steps know it.
    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// Whether there was more than one.
    pub(super) fn are_many(&self) -> bool {
        self.made() > 0
    }

    fn made(&self) -> u32 {
        let made = self.call.made();
        made.retries + made.unprocessed
    }

    /// What to do about a try that ended so.
    pub(super) fn decide(
        &self,
        ended: &Ended,
        trailers: Option<&HeaderMap>,
        unsent: bool,
    ) -> Decision {
        if ended.as_ref().is_err_and(|error| error.is::<TooLarge>()) {
            // No endpoint takes it, whatever the rule lists.
            return Decision::Stop(Why::NotListed);
        }
        let mut facts = self.facts(self.outcome(ended, trailers, unsent));
        // Whether there is anything to retry is seen without clocks and headers: mostly not.
        let hoped = self.ask(&facts);
        if hoped == Decision::Keep {
            return hoped;
        }
        if !unsent {
            facts.replay = self.body.replay();
        }
        facts.left = self.left();
        facts.pushback = ended.as_ref().ok().and_then(|response| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let told = trailers.unwrap_or_else(|| response.headers());
            Pushback::read(told, now.unwrap_or_default())
        });
        self.ask(&facts)
    }

    /// The facts that are known without a look at clock or body.
    fn facts(&self, outcome: Outcome) -> Facts<'_> {
        Facts {
            method: &self.method,
            call: match self.protocol {
                Protocol::Http => CallKind::Http,
                Protocol::Grpc => CallKind::Grpc,
            },
            outcome,
            replay: Replay::Possible,
            tries: self.call.made(),
            pushback: None,
            left: None,
        }
    }

    /// Notes in `call`, that of the try to come, if there can be none after it. Only where a
    /// limit depends on it.
    pub(super) fn note_last(&self, call: &mut Call) {
        let Some(rule) = self.call.rule() else {
            return;
        };
        if rule.timeouts.response_headers.is_none() {
            return;
        }
        let facts = Facts {
            replay: self.body.replay(),
            ..self.facts(Outcome::Failed(Failure::Timeout))
        };
        if rule.retry.is_last(&facts) {
            call.set_last();
        }
    }

    /// The next try begins `now`.
    pub(super) fn begin_try(&mut self, now: Instant) {
        self.call.begin_try(now);
    }

    /// Whether a response can be passed on, or its first frame may make for another try.
    pub(super) fn hold(&self, ended: Ended) -> Hold {
        match ended {
            Ok(response) if self.awaits_status(&response) => {
                Hold::Wait(FirstFrame::of(response, self.held_until()))
            }
            ended => Hold::Pass(ended),
        }
    }

    fn awaits_status(&self, response: &Response<Body>) -> bool {
        // A caller that has more to say may be waiting for the head before it says more.
        if self.protocol == Protocol::Http
            || response.body().is_end_stream()
            || !self.body.has_ended()
        {
            return false;
        }
        let Some(rule) = self.call.rule() else {
            return false;
        };
        let facts = Facts {
            replay: self.body.replay(),
            left: self.left(),
            // Its outcome is what is awaited.
            ..self.facts(Outcome::Failed(Failure::Reset))
        };
        self.grpc_status(response.headers()).is_none() && rule.retry.awaits_status(&facts)
    }

    /// Until when a response is kept from its caller: as long as its try may take for the head.
    fn held_until(&self) -> Instant {
        let begun = self.call.tried_at();
        let limits = self.call.rule().map(|rule| rule.timeouts);
        let own = limits.and_then(|limits| limits.response_headers);
        let own = begun + own.unwrap_or(LONGEST_HOLD);
        self.call
            .deadline()
            .map_or(own, |deadline| deadline.min(own))
    }

    fn ask(&self, facts: &Facts<'_>) -> Decision {
        let draw = Draw(fastrand::u64(..));
        match self.call.rule() {
            Some(rule) => rule.retry.decide(facts, draw),
            None => RetryPolicy::default().decide(facts, draw),
        }
    }

    fn left(&self) -> Option<Duration> {
        let until = self.call.deadline()?.into_std();
        Some(deadline::remaining(until, Instant::now().into_std()).unwrap_or_default())
    }

    fn outcome(&self, ended: &Ended, trailers: Option<&HeaderMap>, unsent: bool) -> Outcome {
        let error = match ended {
            Ok(response) => {
                let status = response.status().as_u16();
                let told = trailers.unwrap_or_else(|| response.headers());
                let grpc = self.grpc_status(told);
                return Outcome::Answered { status, grpc };
            }
            Err(error) => error,
        };
        if error.is::<TimedOut>() {
            return Outcome::Failed(Failure::Timeout);
        }
        if unsent {
            return Outcome::Failed(Failure::Connect);
        }
        if let Some(broke) = error.downcast_ref::<ConnectionBroke>() {
            return Outcome::Failed(match Refusal::of(broke) {
                Some(Refusal::Stream) => Failure::Refused,
                Some(Refusal::GoAway) => Failure::GoAway,
                Some(Refusal::GoAwayForError) => Failure::GoAwayForError,
                None => Failure::Reset,
            });
        }
        if error.is::<InvalidResponse>() {
            return Outcome::Failed(Failure::Reset);
        }
        let cause = Cause::of(error.as_ref());
        Outcome::Answered {
            status: cause.status().as_u16(),
            grpc: match self.protocol {
                Protocol::Http => None,
                Protocol::Grpc => Some(cause.grpc_code()),
            },
        }
    }

    /// The status in trailers, or in the head of a trailers-only response.
    fn grpc_status(&self, headers: &HeaderMap) -> Option<u16> {
        match self.protocol {
            Protocol::Http => None,
            Protocol::Grpc => headers.get("grpc-status")?.to_str().ok()?.parse().ok(),
        }
    }

    /// The request of the next try: the one that came back, or made from what was kept.
    pub(super) fn next(
        &mut self,
        again: Again,
        unsent: Option<Request<Body>>,
    ) -> Option<Box<Outgoing>> {
        // A request that came back has the form of its endpoint, and its backend's headers.
        let body = match unsent {
            Some(request) => request.into_body(),
            None => self.body.again()?,
        };
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        request.extensions_mut().clone_from(&self.extensions);
        self.call = self.call.again(again.tries);
        let attempt = self.inherited.saturating_add(self.made());
        let headers = request.headers_mut();
        headers.insert(ATTEMPT, HeaderValue::from(attempt));
        let mut call = self.call.clone();
        self.note_last(&mut call);
        Some(Outgoing::new(request, call))
    }
}

/// Takes the request out of an error that gives it back.
pub(super) fn take_unsent(ended: &mut Ended) -> Option<Request<Body>> {
    let unsent = ended.as_mut().err()?.downcast_mut::<Unsent>()?;
    let request = unsent.request.get_mut();
    request.unwrap_or_else(PoisonError::into_inner).take()
}

/// The error for the caller, without what was in it for us.
pub(super) fn told(ended: Ended) -> Ended {
    ended.map_err(|error| match error.downcast::<Unsent>() {
        Ok(unsent) => unsent.source,
        Err(error) => error,
    })
}

/// A request of which not a byte was sent, and why.
#[derive(Debug, thiserror::Error)]
#[error("the request was not sent")]
pub(crate) struct Unsent {
    request: Mutex<Option<Request<Body>>>,
    source: BoxError,
}

impl Unsent {
    /// Gives `request` back.
    pub(crate) fn new(request: Request<Body>, source: impl Into<BoxError>) -> Self {
        Self {
            request: Mutex::new(Some(request)),
            source: source.into(),
        }
    }

    /// Whether the endpoint could not be reached at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.source.is::<ConnectFailed>()
    }
}

/// How a server says that it did not process a stream (RFC 9113, section 8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// `REFUSED_STREAM`.
    Stream,
    /// A GOAWAY whose last stream is before this one.
    GoAway,
    /// The same, for an error.
    GoAwayForError,
}

impl Refusal {
    /// What an error of a connection says of its stream.
    fn of(error: &ConnectionBroke) -> Option<Self> {
        let mut link: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = link {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
                let leaves = error.reason() == Some(h2::Reason::NO_ERROR);
                return match error {
                    error if !error.is_remote() => None,
                    error if error.is_reset() && refused => Some(Self::Stream),
                    // Only streams beyond the last one end by the peer's GOAWAY.
                    error if error.is_go_away() && leaves => Some(Self::GoAway),
                    error if error.is_go_away() => Some(Self::GoAwayForError),
                    _ => None,
                };
            }
            link = error.source();
        }
        None
    }
}
