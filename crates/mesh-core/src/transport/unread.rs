//! Ends responses that nobody reads, on HTTP/2 connections that are well.
//!
//! A client that answers pings and reads its other streams may still leave one unread: its window
//! stays shut, and the handler, its body and all that they hold wait behind it. A socket that moves
//! says nothing about one stream, and hyper does not poll a body again before the last piece has
//! found room. So each stream's task is watched: where a piece waits to be sent and the next one
//! has not been asked for within the limit, the task ends, and h2 resets the stream.
//!
//! Pieces are small, so that a slow reader of a large one is not mistaken for one that does not
//! read. A timer is made for a stream that waits, and for no other.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

/// The largest piece of a response that is handed to h2 at once: what its own frames hold.
pub(super) const PIECE_BYTES: usize = 16 * 1024;

thread_local! {
    /// The progress of the stream whose task is being polled.
    static POLLED: Cell<Progress> = const { Cell::new(Progress::NONE) };
}

/// How far the response of a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// Pieces that were asked for, modulo 2^32.
    asked: u32,
    /// Whether a piece was given and none asked for since: the client has to make room.
    waits: bool,
}

impl Progress {
    const NONE: Self = Self {
        asked: 0,
        waits: false,
    };
}

pin_project! {
    /// A response body in pieces, which notes when it is asked for one.
    #[derive(Debug)]
    pub(super) struct Pieces<B> {
        #[pin]
        body: B,
        most: usize,
        rest: Bytes,
    }
}

impl<B> Pieces<B> {
    /// In pieces of at most `most` bytes.
    pub(super) const fn new(body: B, most: usize) -> Self {
        let rest = Bytes::new();
        Self { body, most, rest }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let asked = POLLED.get().asked.wrapping_add(1);
        let note = |waits| POLLED.set(Progress { asked, waits });
        note(false);
        if this.rest.is_empty() {
            let polled = this.body.poll_frame(cx);
            // Bodies of other streams may have been polled meanwhile, inside of this one.
            note(false);
            let polled = ready!(polled);
            let Some(Ok(frame)) = polled else {
                return Poll::Ready(polled);
            };
            match frame.into_data() {
                Ok(data) => *this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        note(true);
        let piece = this.rest.split_to(this.rest.len().min(*this.most));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// Spawns the task of each stream of an HTTP/2 connection, and ends those whose clients read
/// nothing for `limit`.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) limit: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let _detached = tokio::spawn(Read {
            stream,
            limit: self.limit,
            progress: Progress::NONE,
            timer: None,
        });
    }
}

pin_project! {
    /// The task of a stream, until it ends or its client has read nothing for too long.
    struct Read<F> {
        #[pin]
        stream: F,
        limit: Duration,
        progress: Progress,
        timer: Option<Timer>,
    }
}

/// Since when a stream has waited for its client.
#[derive(Debug)]
struct Timer {
    asked: u32,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn start(asked: u32, limit: Duration) -> Self {
        Self {
            asked,
            since: Instant::now(),
            sleep: Box::pin(tokio::time::sleep(limit)),
        }
    }

    /// Ready once the client has read nothing of piece number `asked` for `limit`.
    fn poll_late(&mut self, asked: u32, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.asked != asked {
            self.asked = asked;
            self.since = Instant::now();
        }
        // A timer that is moved at every piece costs more than one that rings too early.
        while self.sleep.as_mut().poll(cx).is_ready() {
            let end = self.since + limit;
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl<F: Future<Output = ()>> Future for Read<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let outer = POLLED.replace(*this.progress);
        let polled = this.stream.poll(cx);
        *this.progress = POLLED.replace(outer);
        if polled.is_ready() {
            return Poll::Ready(());
        }
        let Progress { asked, waits } = *this.progress;
        if !waits {
            *this.timer = None;
            return Poll::Pending;
        }
        let timer = this
            .timer
            .get_or_insert_with(|| Timer::start(asked, *this.limit));
        ready!(timer.poll_late(asked, *this.limit, cx));
        tracing::debug!(limit = ?this.limit, "a response that its client does not read is cut");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_in_pieces_is_the_same_body() {
        let whole = Bytes::from((0..=255).collect::<Vec<u8>>());
        let mut pieces = Pieces::new(Full::new(whole.clone()), 100);
        let mut left = 256;
        for length in [100, 100, 56] {
            assert_eq!(pieces.size_hint().exact(), Some(left));
            assert!(!pieces.is_end_stream());
            let piece = pieces.frame().await.expect("a piece").expect("no error");
            let piece = piece.into_data().expect("data");
            assert_eq!(piece.len(), length);
            left -= length as u64;
        }
        assert!(pieces.is_end_stream());
        let again = Pieces::new(Full::new(whole.clone()), 7).collect().await;
        assert_eq!(again.expect("no error").to_bytes(), whole);
    }
}
