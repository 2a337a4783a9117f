//! The accept loop: every handshake is a task of its own, with a limit on everything.
//!
//! A slow or silent client holds one slot for a bounded time and delays nobody. What
//! the handshake proved becomes the [`Caller`] of every request of the connection.

use std::convert::Infallible;
use std::io;
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
use mesh_tls::config::Alpn;
use mesh_tls::handshake::{self, HandshakeRefused, TlsFacts};
use mesh_tls::lifetime::Lifetime;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
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
/// How long a client may hold one of the turns to shake hands: a round trip, with packets lost.
const TURN: Duration = Duration::from_secs(3);
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// What may be written to a connection and not be sent yet.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Requests at a time on one connection: one watch, and a few short ones.
const MAX_STREAMS: u32 = 128;

/// How much is held for callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, 16,384 by default; further ones wait in the system's backlog.
    /// Too few, and processes cannot watch; too many, and memory ends first.
    pub connections: usize,
    /// Handshakes at a time, 512 by default, of clients whose hello is read, for at most 3 s
    /// each. Each costs processor time before anything is known about the caller. Too few, and a
    /// fleet that comes back waits; too many, and a flood takes every core.
    pub handshakes: usize,
    /// How long a handshake may take, 10 s by default, its wait for its turn included.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 512,
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

/// Accepts until the server ends, then lets connections finish for a bounded time.
pub(crate) async fn run(tcp: TcpListener, listener: Listener) {
    let slots = Arc::new(Semaphore::new(listener.limits.connections));
    let handshakes = Arc::new(Semaphore::new(listener.limits.handshakes));
    let listener = Arc::new(listener);
    let mut ending = listener.ending.clone();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let slot = slot.expect("the semaphore is never closed");
            (slot, tcp.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        // Finished tasks hold memory until they are collected.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let listener = Arc::clone(&listener);
                let handshakes = Arc::clone(&handshakes);
                connections.spawn(async move {
                    connection(&listener, &handshakes, stream).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(tcp);
    while connections.join_next().await.is_some() {}
}

async fn connection(listener: &Listener, handshakes: &Semaphore, stream: TcpStream) {
    // Events are small and must not wait for each other; a socket that refuses still works.
    drop(stream.set_nodelay(true));
    let peer = stream.peer_addr().ok();
    let handshake = shake_hands(listener, handshakes, stream);
    match timeout(listener.limits.handshake_timeout, handshake).await {
        Ok(Ok((stream, facts))) => {
            listener.metrics.connections.increment(1);
            serve(listener, TokioIo::new(stream), (&facts, peer)).await;
            listener.metrics.connections.decrement(1);
        }
        Ok(Err(HandshakeRefused::Io(error))) => {
            tracing::debug!(?peer, %error, "a connection broke during the handshake");
            listener.metrics.handshakes_refused.increment(1);
        }
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(?peer, %error, cause, "a handshake was refused");
            listener.metrics.handshakes_refused.increment(1);
        }
        Err(_) => {
            tracing::debug!(?peer, "a handshake took too long");
            listener.metrics.handshakes_refused.increment(1);
        }
    }
}

/// Reads the client's hello, and answers it when its turn comes.
async fn shake_hands(
    listener: &Listener,
    handshakes: &Semaphore,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, TlsFacts), HandshakeRefused> {
    // A client that is silent waits before this, so it takes no one else's turn.
    let hello = handshake::hello(stream).await?;
    let _turn = handshakes.acquire().await;
    // Only now: what was renewed during the wait counts.
    let config = listener.tls.borrow().clone();
    match timeout(TURN, hello.accept(config)).await {
        Ok(accepted) => accepted,
        Err(_) => Err(HandshakeRefused::Io(io::ErrorKind::TimedOut.into())),
    }
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
    (facts, peer): (&TlsFacts, Option<SocketAddr>),
) {
    let caller = Caller::new(facts.peer.clone(), &listener.domain);
    let router = &listener.router;
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectedFrom(peer.ip()));
        }
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
