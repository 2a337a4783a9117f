//! A request body that can be sent once more, byte for byte.
//!
//! What passes is copied into one buffer, so that many tiny frames take no more
//! memory than their bytes. Once a body outgrows the limit the copy is let go, and
//! the body streams on as if nobody had watched.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use mesh_policy::retry::Replay;

use crate::{Body, BoxError};

/// What is kept of a body.
#[derive(Debug)]
pub(crate) enum Kept {
    /// It is in memory anyhow.
    Whole(Body),
    /// It is copied while it passes.
    Passing(Arc<Mutex<Passing>>),
    /// It says of itself that it is larger than what is kept.
    TooLarge,
}

impl Kept {
    /// The body of the first try, and what later ones are made from.
    pub(crate) fn of(body: Body, limit: usize) -> (Body, Self) {
        if let Some(copy) = body.copy() {
            return (body, Self::Whole(copy));
        }
        if body.size_hint().lower() > limit as u64 {
            return (body, Self::TooLarge);
        }
        let passing = Passing {
            body,
            copy: BytesMut::new(),
            trailers: None,
            limit,
            state: State::Open,
            turn: 0,
        };
        let passing = Arc::new(Mutex::new(passing));
        let body = Replayed::new(Arc::clone(&passing), 0);
        (Body::new(body), Self::Passing(passing))
    }

    /// Whether the body can be sent once more.
    pub(crate) fn replay(&self) -> Replay {
        match self {
            Self::Whole(_) => Replay::Possible,
            Self::TooLarge => Replay::TooLarge,
            Self::Passing(passing) => match lock(passing).state {
                State::Open | State::Ended => Replay::Possible,
                State::Outgrown => Replay::TooLarge,
                State::Broken => Replay::Streaming,
            },
        }
    }

    /// Whether the application has said all of the body.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            // Never sent again, so that nothing depends on its end.
            Self::TooLarge => false,
            Self::Passing(passing) => {
                let passing = lock(passing);
                match passing.state {
                    State::Ended | State::Broken => true,
                    State::Open | State::Outgrown => passing.body.is_end_stream(),
                }
            }
        }
    }

    /// The body again, from its first byte; `None` if it is not kept. Earlier ones end with
    /// an error, should somebody still read them.
    pub(crate) fn again(&self) -> Option<Body> {
        match self {
            Self::Whole(body) => body.copy(),
            Self::TooLarge => None,
            Self::Passing(passing) => {
                let mut kept = lock(passing);
                if matches!(kept.state, State::Outgrown | State::Broken) {
                    return None;
                }
                kept.turn += 1;
                let turn = kept.turn;
                drop(kept);
                Some(Body::new(Replayed::new(Arc::clone(passing), turn)))
            }
        }
    }
}

/// A body on its way, and the copy of what has passed.
#[derive(Debug)]
pub(crate) struct Passing {
    body: Body,
    copy: BytesMut,
    trailers: Option<HeaderMap>,
    limit: usize,
    state: State,
    /// Which try reads.
    turn: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Outgrown,
    /// The application's body failed: there is nothing more to be sent.
    Broken,
}

impl Passing {
    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, BoxError>>) {
        match frame {
            None => self.end(),
            Some(Err(_)) => self.state = State::Broken,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref()
                    && self.state == State::Open
                {
                    if self.copy.len() + data.len() > self.limit {
                        self.state = State::Outgrown;
                        self.copy = BytesMut::new();
                    } else {
                        self.copy.extend_from_slice(data);
                    }
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                    self.end();
                }
            }
        }
    }

    fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
        }
    }
}

fn lock(passing: &Mutex<Passing>) -> MutexGuard<'_, Passing> {
    passing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One try's reading of the body: first the copy, then what follows.
struct Replayed {
    passing: Arc<Mutex<Passing>>,
    turn: u32,
    sent: usize,
    trailers_sent: bool,
}

impl Replayed {
    const fn new(passing: Arc<Mutex<Passing>>, turn: u32) -> Self {
        Self {
            passing,
            turn,
            sent: 0,
            trailers_sent: false,
        }
    }
}

impl HttpBody for Replayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut kept = lock(&this.passing);
        if kept.turn != this.turn {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if this.sent < kept.copy.len() {
            let rest = Bytes::copy_from_slice(&kept.copy[this.sent..]);
            this.sent = kept.copy.len();
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        if kept.state == State::Ended {
            if this.trailers_sent {
                return Poll::Ready(None);
            }
            this.trailers_sent = true;
            let trailers = kept.trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(&mut kept.body).poll_frame(cx));
        kept.keep(frame.as_ref());
        this.sent = kept.copy.len();
        this.trailers_sent |= kept.trailers.is_some();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.passing);
        // One that was replaced is at no end: what it has sent must not pass for the whole.
        if kept.turn != self.turn || self.sent < kept.copy.len() {
            return false;
        }
        match kept.state {
            State::Ended => self.trailers_sent || kept.trailers.is_none(),
            State::Open | State::Outgrown => kept.body.is_end_stream(),
            State::Broken => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let kept = lock(&self.passing);
        if kept.turn != self.turn {
            return SizeHint::default();
        }
        let copied = (kept.copy.len().saturating_sub(self.sent)) as u64;
        let rest = kept.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(copied));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(copied));
        }
        hint
    }
}

/// Another try sends the body now.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another try sends this body")]
struct Superseded;

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const LIMIT: usize = 8;

    /// A body of these pieces, with trailers.
    fn pieces(pieces: &'static [&'static str]) -> Body {
        let data = pieces.iter().map(|piece| Frame::data((*piece).into()));
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static("1"),
        )]);
        let frames = data.chain([Frame::trailers(trailers)]);
        let frames: Vec<_> = frames.map(Ok::<_, BoxError>).collect();
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn read(body: Body) -> (Bytes, Option<HeaderMap>) {
        let read = body.collect().await.expect("it is whole");
        let trailers = read.trailers().cloned();
        (read.to_bytes(), trailers)
    }

    #[tokio::test]
    async fn p08_a_body_is_replayed_byte_for_byte_with_its_trailers() {
        let (first, kept) = Kept::of(pieces(&["abc", "", "def"]), LIMIT);
        let once = read(first).await;
        assert_eq!(once.0, "abcdef");
        assert!(once.1.is_some());
        for _ in 0..2 {
            assert_eq!(read(kept.again().expect("it is kept")).await, once);
        }
    }

    #[tokio::test]
    async fn p08_a_try_that_read_a_part_is_followed_by_the_whole() {
        let (mut first, kept) = Kept::of(pieces(&["abc", "def"]), LIMIT);
        assert!(first.frame().await.is_some());
        let again = kept.again().expect("it is kept");
        let error = first.frame().await.expect("an end").expect_err("replaced");
        assert!(error.is::<Superseded>());
        let (bytes, trailers) = read(again).await;
        assert_eq!(bytes, "abcdef");
        assert!(trailers.is_some());
    }

    #[tokio::test]
    async fn p08_a_body_that_outgrows_the_limit_is_let_go_and_streams_on() {
        let (first, kept) = Kept::of(pieces(&["abcd", "efgh", "i"]), LIMIT);
        assert_eq!(kept.replay(), Replay::Possible);
        assert_eq!(read(first).await.0, "abcdefghi");
        assert_eq!(kept.replay(), Replay::TooLarge);
        assert!(kept.again().is_none());
        let Kept::Passing(passing) = &kept else {
            panic!("it was watched");
        };
        assert_eq!(lock(passing).copy.capacity(), 0, "it is still held");
    }

    #[test]
    fn p08_a_body_that_is_too_large_by_its_own_word_is_never_held() {
        let body = http_body_util::Full::new(Bytes::from_static(b"123456789"));
        let (_, kept) = Kept::of(Body::new(body), LIMIT);
        assert!(matches!(kept, Kept::TooLarge));
        assert_eq!(kept.replay(), Replay::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_failed_is_not_sent_again() {
        let frames = [Err::<Frame<Bytes>, _>(std::io::Error::other("cut"))];
        let body = Body::new(StreamBody::new(futures_util::stream::iter(frames)));
        let (first, kept) = Kept::of(body, LIMIT);
        assert!(first.collect().await.is_err());
        assert_eq!(kept.replay(), Replay::Streaming);
        assert!(kept.again().is_none());
    }

    /// A body that knows its end, as one of the wire does; the last piece comes first.
    struct Queue(Vec<&'static str>);

    impl HttpBody for Queue {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece.into()))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[tokio::test]
    async fn p08_a_try_that_was_replaced_never_looks_whole() {
        let (mut first, kept) = Kept::of(Body::new(Queue(vec!["i", "efgh", "abcd"])), LIMIT);
        assert!(first.frame().await.is_some());
        let again = kept.again().expect("it is kept");
        assert_eq!(read(again).await.0, "abcdefghi");
        assert!(!first.is_end_stream(), "4 of 9 bytes pass for all of them");
    }
}
