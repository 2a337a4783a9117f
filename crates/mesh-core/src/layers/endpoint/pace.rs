//! How long one try may take, from its start to the end of its response.
//!
//! Some limits are moments, others move with what passes. No timer is moved with
//! each frame: it runs to the first moment at which a limit could have passed,
//! looks, and runs on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::layers::timeout::{Limit, TimedOut};
use crate::outbound::Call;
use crate::{Body, BoxError};

/// The limits of one try. Absent where its rule has none, so that most tries pay nothing.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// For the whole try, and its moment.
    whole: Option<(Instant, Limit)>,
    /// For the response headers; gone with them.
    headers: Option<Instant>,
    response: Option<Duration>,
    idle: Option<Duration>,
    progress: Arc<Progress>,
    sleep: Pin<Box<Sleep>>,
}

impl Pace {
    /// Begins a try at `now`; `None` if it may take as long as the request.
    pub(super) fn start(call: &Call, now: Instant) -> Option<Self> {
        let limits = call.rule().map(|rule| rule.timeouts).unwrap_or_default();
        let at = |limit: Duration| now.checked_add(limit);
        let own = limits.backend_request.and_then(at);
        let own = own.map(|at| (at, Limit::BackendRequest));
        let whole = [own, call.lifetime()].into_iter().flatten();
        let whole = whole.min_by_key(|(at, _)| *at);
        let headers = limits.response_headers;
        let headers = headers.filter(|_| call.may_be_followed()).and_then(at);
        if whole.is_none() && headers.is_none() && limits.response.or(limits.idle).is_none() {
            return None;
        }
        let mut pace = Self {
            begun: now,
            whole,
            headers,
            response: limits.response,
            idle: limits.idle,
            progress: Arc::default(),
            sleep: Box::pin(sleep_until(now)),
        };
        let (first, _) = pace.due(now)?;
        pace.sleep.as_mut().reset(first);
        Some(pace)
    }

    /// When the try is given up if it has no response by then.
    pub(super) fn headers_by(&self) -> Option<Instant> {
        let whole = self.whole.map(|(at, _)| at);
        [whole, self.headers].into_iter().flatten().min()
    }

    /// Watches what is sent, if a limit depends on it.
    pub(super) fn watch(&self, body: &mut Body) {
        if self.response.is_none() && self.idle.is_none() {
            return;
        }
        if body.is_end_stream() {
            self.progress.sent.note(self.begun.elapsed());
            return;
        }
        *body = Body::new(Upward {
            body: std::mem::take(body),
            begun: self.begun,
            progress: Arc::clone(&self.progress),
        });
    }

    /// The response headers are there.
    pub(super) fn answered(&mut self) {
        self.headers = None;
        self.received();
    }

    /// Something of the response is there.
    pub(super) fn received(&self) {
        self.progress.moved.note(self.begun.elapsed());
    }

    /// The limit of the whole try if it has passed, whatever keeps coming.
    pub(super) fn is_over(&self) -> Option<TimedOut> {
        let (at, limit) = self.whole.filter(|(at, _)| *at <= Instant::now())?;
        Some(self.passed(at, limit))
    }

    /// Ends when a limit has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            match self.due(now) {
                Some((at, limit)) if at <= now => return Poll::Ready(self.passed(at, limit)),
                Some((at, _)) => self.sleep.as_mut().reset(at),
                None => return Poll::Pending,
            }
        }
    }

    fn passed(&self, at: Instant, limit: Limit) -> TimedOut {
        TimedOut::new(limit, at - self.begun)
    }

    /// The first moment at which a limit passes, as far as can be known at `now`.
    fn due(&self, now: Instant) -> Option<(Instant, Limit)> {
        let progress = &self.progress;
        let after = |since: Option<Duration>, limit: Duration| {
            let since = since.map_or(now, |since| self.begun + since);
            since.checked_add(limit)
        };
        let headers = self.headers.map(|at| (at, Limit::ResponseHeaders));
        // While the request is still being sent, its time has not even begun.
        let response = self.response.and_then(|limit| {
            let at = after(progress.sent.read(), limit)?;
            Some((at, Limit::Response))
        });
        let idle = self.idle.and_then(|limit| {
            let moved = progress.moved.read().unwrap_or_default();
            Some((after(Some(moved), limit)?, Limit::Idle))
        });
        let all = [self.whole, headers, response, idle];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

#[derive(Debug, Default)]
struct Progress {
    /// The last frame of either direction.
    moved: Moment,
    /// The end of the request.
    sent: Moment,
}

/// When something happened, in nanoseconds since the try began, and one; 0 for never.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn note(&self, since: Duration) {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos.saturating_add(1), Ordering::Relaxed);
    }

    fn read(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        nanos.checked_sub(1).map(Duration::from_nanos)
    }
}

/// A request body on its way, which tells how far it is.
struct Upward {
    body: Body,
    begun: Instant,
    progress: Arc<Progress>,
}

impl HttpBody for Upward {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let since = self.begun.elapsed();
        self.progress.moved.note(since);
        if frame.is_none() || self.body.is_end_stream() {
            self.progress.sent.note(since);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upward {
    /// A server that answers early wants no more of it.
    fn drop(&mut self) {
        let progress = &self.progress;
        if progress.sent.read().is_none() {
            progress.sent.note(self.begun.elapsed());
        }
    }
}
