//! What a connection is doing, as seen from outside of it.
//!
//! hyper's own timer for slow heads also runs while a kept-alive connection is
//! idle, and costs an allocation per request. So the bytes that arrive are
//! watched here instead, and someone who looks now and then
//! ([`super::connections`]) finds heads that do not end and connections that rest.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::Ticket;
use super::frames::Frames;

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// The shared picture of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Whether the handshake is over.
    serving: AtomicBool,
    /// Whether policy refuses whatever the client may ask for.
    doubted: AtomicBool,
    /// Whether it is no HTTP any more.
    upgraded: AtomicBool,
    in_flight: AtomicU32,
    /// Requests that have begun, modulo 2^32.
    begun: AtomicU32,
    /// The number of the head being read, shifted left; odd while it is unfinished.
    head: AtomicU64,
    /// Writes that went on, modulo 2^32.
    written: AtomicU32,
    /// Whether the last write has to wait for the client.
    blocked: AtomicBool,
    end: AtomicBool,
    waker: AtomicWaker,
    cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// What a connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing yet.
    Handshake,
    Http,
    /// Whatever its two ends agreed on.
    Upgraded,
}

/// What [`Activity`] looked like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) phase: Phase,
    pub(crate) doubted: bool,
    pub(crate) in_flight: u32,
    pub(crate) begun: u32,
    pub(crate) head: u64,
    pub(crate) written: u32,
    pub(crate) blocked: bool,
}

impl Glance {
    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.head & 1 == 1
    }
}

impl Activity {
    pub(crate) fn glance(&self) -> Glance {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        Glance {
            phase: match (is(&self.serving), is(&self.upgraded)) {
                (false, _) => Phase::Handshake,
                (true, false) => Phase::Http,
                (true, true) => Phase::Upgraded,
            },
            doubted: is(&self.doubted),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            blocked: is(&self.blocked),
        }
    }

    pub(crate) fn serves(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    /// Whether the client is waited for no longer than it takes to refuse it.
    pub(crate) fn doubt(&self, doubted: bool) {
        self.doubted.store(doubted, Ordering::Relaxed);
    }

    /// Says that HTTP is over: if the stream lives on, it is as good as a request in flight.
    pub(crate) fn upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Fails the stream, whoever has it now.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// What was `polled`, unless the stream was cut; wakes `waiting` if it is cut later.
    fn unless_cut<T>(
        &self,
        waiting: &AtomicWaker,
        cx: &Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            waiting.register(cx.waker());
        }
        if self.cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }

    /// Notes what became of a write.
    fn wrote(&self, cx: &Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let polled = self.unless_cut(&self.writer, cx, polled);
        if polled.is_ready() {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        self.blocked.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    /// Notes what became of a flush, which goes on only if it had to wait before.
    fn flushed(&self, cx: &Context<'_>, polled: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        let polled = self.unless_cut(&self.writer, cx, polled);
        let waited = self.blocked.load(Ordering::Relaxed);
        if waited && polled.is_ready() {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
        if waited != polled.is_pending() {
            self.blocked.store(polled.is_pending(), Ordering::Relaxed);
        }
        polled
    }

    /// Tells the connection to finish what is in flight and close.
    pub(crate) fn end(&self) {
        self.end.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection was told to end; wakes the task if it is told later.
    pub(crate) fn poll_end(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.end.load(Ordering::Acquire)
    }
}

/// A request in flight, from its head to the end of its response and of its own body: each
/// half holds a clone.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(crate) fn begin(activity: &Arc<Activity>, http: Http) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        activity.begun.fetch_add(1, Ordering::Relaxed);
        if http == Http::One {
            let finished = (activity.head.load(Ordering::Relaxed) | 1).wrapping_add(1);
            activity.head.store(finished, Ordering::Relaxed);
        }
        Self(Arc::clone(activity))
    }
}

impl Clone for InFlight {
    fn clone(&self) -> Self {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Heads {
    /// Bytes with no request in flight belong to the next head.
    One,
    Two(Frames),
}

pin_project! {
    /// A stream whose bytes, in and out, are noted in an [`Activity`].
    #[derive(Debug)]
    pub(crate) struct Watched<IO> {
        #[pin]
        io: IO,
        heads: Heads,
        // Kept for as long as the stream, which an upgrade takes away from the server.
        ticket: Ticket,
    }
}

impl<IO> Watched<IO> {
    pub(crate) fn new(io: IO, http: Http, ticket: Ticket) -> Self {
        let heads = match http {
            Http::One => Heads::One,
            Http::Two => {
                let frames = Frames::default();
                ticket
                    .activity()
                    .head
                    .store(frames.head(), Ordering::Relaxed);
                Heads::Two(frames)
            }
        };
        Self { io, heads, ticket }
    }
}

impl<IO: AsyncRead> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let activity = this.ticket.activity();
        let before = buffer.filled().len();
        let polled = this.io.poll_read(cx, buffer);
        let polled = activity.unless_cut(&activity.reader, cx, polled);
        let bytes = &buffer.filled()[before..];
        if bytes.is_empty() {
            return polled;
        }
        match this.heads {
            Heads::One => {
                if activity.in_flight.load(Ordering::Relaxed) == 0 {
                    activity.head.fetch_or(1, Ordering::Relaxed);
                }
            }
            Heads::Two(frames) => {
                frames.read(bytes);
                activity.head.store(frames.head(), Ordering::Relaxed);
            }
        }
        polled
    }
}

impl<IO: AsyncWrite> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_write(cx, bytes);
        this.ticket.activity().wrote(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.io.poll_flush(cx);
        this.ticket.activity().flushed(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.io.poll_shutdown(cx);
        this.ticket.activity().flushed(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_write_vectored(cx, slices);
        this.ticket.activity().wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
