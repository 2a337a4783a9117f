//! The accept loop: every handshake is a task of its own, with a limit on everything.
//!
//! A slow or silent client holds one place for a bounded time, and less where the next client
//! needs it; it delays nobody. What the handshake proved becomes the [`Caller`] of every request of
//! the connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use mesh_policy::identity::TrustDomain;
use mesh_tls::accept::descriptors::Descriptor;
use mesh_tls::accept::places::Places;
use mesh_tls::accept::turns::Turns;
use mesh_tls::config::Alpn;
use mesh_tls::handshake::{self, HandshakeRefused, TlsFacts};
use mesh_tls::lifetime::Lifetime;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::caller::Caller;
use crate::metrics::Metrics;
use crate::targets::ConnectedFrom;

/// How often the other end of an HTTP/2 connection is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long it may take to answer: with the interval, a dead peer is noticed after 10 s.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without a certificate is kept: enrolling takes one request.
const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(60);
/// How long requests may still take once a connection is to end.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that makes room for another is waited for.
const CLOSING: Duration = Duration::from_millis(5);
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// What may be written to a connection and not be sent yet.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Requests at a time on one connection: one watch, and a few short ones.
const MAX_STREAMS: u32 = 128;

/// How much is held for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, 16,384 by default, and no more than the process's limit of open
    /// files allows to all of its listeners together (see [`mesh_tls::accept::descriptors`]). The
    /// next one takes the place of a client without a certificate; where there is none, further
    /// ones wait in the system's backlog. Too few, and processes cannot watch; too many, and
    /// memory ends first.
    pub connections: usize,
    /// Connections at a time whose clients have not finished their handshakes, 4,096 by default,
    /// and half of `connections` at most. The next one takes the place of the oldest of the source
    /// address that has the most. Too few, and clients far away try again during a flood; too
    /// many, and strangers hold memory, some 12 KiB each.
    pub handshakes: usize,
    /// Connections at a time whose clients have shown no certificate, 4,096 by default, and a
    /// quarter of `connections` at most; the oldest gives way in the same manner. Too few, and a
    /// fleet that joins at once tries again; too many, and strangers take what members need.
    pub anonymous: usize,
    /// How long a handshake may take, 10 s by default. Too short refuses distant clients; too long
    /// lets strangers keep places that nobody else needs.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 4_096,
            anonymous: 4_096,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// What all connections share.
pub(crate) struct Listener {
    pub(crate) limits: Limits,
    pub(crate) domain: TrustDomain,
    pub(crate) tls: watch::Receiver<Arc<ServerConfig>>,
    pub(crate) router: Router,
    pub(crate) metrics: Arc<Metrics>,
    /// True once the server is to end.
    pub(crate) ending: watch::Receiver<bool>,
}

/// Where connections find room.
struct Room {
    slots: Arc<Semaphore>,
    half_open: Arc<Places>,
    anonymous: Arc<Places>,
    turns: Arc<Turns>,
    /// Told whenever a connection is over.
    left: Arc<Notify>,
}

/// What a connection holds for as long as it lives.
struct Held {
    _slot: OwnedSemaphorePermit,
    file: Option<Descriptor>,
    left: Arc<Notify>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.file = None;
        self.left.notify_waiters();
    }
}

impl Room {
    fn new(limits: Limits) -> Self {
        let most = limits.connections;
        Self {
            slots: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            half_open: Places::new(limits.handshakes.min(most / 2)),
            anonymous: Places::new(limits.anonymous.min(most / 4)),
            turns: Turns::of_this_runtime(),
            left: Arc::default(),
        }
    }

    /// Waits for room for one more connection, and makes it at the cost of strangers.
    async fn one_more(&self) -> Held {
        if self.slots.available_permits() == 0 {
            self.evict();
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        Held {
            _slot: slot.expect("the semaphore is never closed"),
            file: Some(self.file().await),
            left: Arc::clone(&self.left),
        }
    }

    async fn file(&self) -> Descriptor {
        loop {
            let left = self.left.notified();
            if let Some(file) = Descriptor::take() {
                return file;
            }
            // Without a stranger here, another listener of the process may have one.
            let pause = if self.evict() { CLOSING } else { ACCEPT_PAUSE };
            drop(timeout(pause, left).await);
        }
    }

    /// Has the connection of a stranger closed; false if there is none.
    fn evict(&self) -> bool {
        // Each of both may hold members: where strangers are many, they are most of them.
        match self.half_open.count() < self.anonymous.count() {
            true => self.anonymous.evict(),
            false => self.half_open.evict(),
        }
    }
}

/// Accepts until the server ends, then lets connections finish for a bounded time.
pub(crate) async fn run(tcp: TcpListener, listener: Listener) {
    let room = Arc::new(Room::new(listener.limits));
    let listener = Arc::new(listener);
    let mut ending = listener.ending.clone();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async { (room.one_more().await, tcp.accept().await) };
        let (held, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        // Finished tasks hold memory until they are collected.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let listener = Arc::clone(&listener);
                let room = Arc::clone(&room);
                connections.spawn(async move {
                    connection(&listener, &room, (stream, peer)).await;
                    drop(held);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // The process may have no file left, which a stranger's connection gives back.
                room.evict();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(tcp);
    while connections.join_next().await.is_some() {}
}

async fn connection(listener: &Listener, room: &Room, (stream, peer): (TcpStream, SocketAddr)) {
    // Events are small and must not wait for each other; a socket that refuses still works.
    drop(stream.set_nodelay(true));
    let place = room.half_open.take(peer.ip());
    let handshake = shake_hands(listener, &room.turns, stream);
    let finished = tokio::select! {
        finished = timeout(listener.limits.handshake_timeout, handshake) => finished.ok(),
        () = place.evicted() => None,
    };
    drop(place);
    match finished {
        Some(Ok((stream, facts))) => {
            let anonymous = facts.peer.is_none().then(|| room.anonymous.take(peer.ip()));
            let evicted = async {
                match &anonymous {
                    Some(place) => place.evicted().await,
                    None => std::future::pending().await,
                }
            };
            listener.metrics.connections.increment(1);
            tokio::select! {
                () = serve(listener, TokioIo::new(stream), (&facts, peer)) => {}
                () = evicted => tracing::debug!(%peer, "a client without a certificate makes room"),
            }
            listener.metrics.connections.decrement(1);
            return;
        }
        Some(Err(HandshakeRefused::Io(error))) => {
            tracing::debug!(%peer, %error, "a connection broke during the handshake");
        }
        Some(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%peer, %error, cause, "a handshake was refused");
        }
        None => tracing::debug!(%peer, "a handshake took too long, or another client's place"),
    }
    listener.metrics.handshakes_refused.increment(1);
}

/// Reads the client's hello, and answers it when there is a turn to.
async fn shake_hands(
    listener: &Listener,
    turns: &Arc<Turns>,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, TlsFacts), HandshakeRefused> {
    let hello = handshake::hello(stream).await?;
    // The configuration is taken with the first turn: what was renewed during the wait counts.
    let accept = async {
        let config = listener.tls.borrow().clone();
        hello.accept(config).await
    };
    turns.pace(accept).await
}

/// How long a connection may last: no longer than what it proved.
fn lifetime(facts: &TlsFacts) -> Lifetime {
    match facts.peer_not_after {
        Some(end) => Lifetime::until(end),
        None => Lifetime::of(ANONYMOUS_LIFETIME),
    }
}

async fn serve(
    listener: &Listener,
    stream: TokioIo<TlsStream<TcpStream>>,
    (facts, peer): (&TlsFacts, SocketAddr),
) {
    let caller = Caller::new(facts.peer.clone(), &listener.domain);
    let router = &listener.router;
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        request.extensions_mut().insert(ConnectedFrom(peer.ip()));
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let mut ending = listener.ending.clone();
    let lifetime = lifetime(facts);
    let end = async {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => {}
            () = lifetime.reach(lifetime.length()) => {}
        }
    };
    match facts.alpn {
        Alpn::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEADER_BYTES)
                .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
                .serve_connection(stream, service);
            drive(connection, end).await;
        }
        Alpn::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .max_buf_size(MAX_SEND_BUFFER_BYTES)
                .serve_connection(stream, service);
            drive(connection, end).await;
        }
    }
}

/// Runs a connection until it finishes by itself, or a while after `end`.
async fn drive<C>(connection: C, end: impl Future<Output = ()>)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let finished = tokio::select! {
        finished = &mut connection => finished,
        () = end => {
            connection.as_mut().graceful_shutdown();
            // What is not done by then is cut off: dropping closes it.
            timeout(DRAIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
