//! How many connections one endpoint may have, and for how long.

use std::time::Duration;

use mesh_tls::lifetime::Lifetime;
use tokio::time::Instant;

use crate::transport::connect::Opened;

/// The limits of one endpoint's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// HTTP/2 connections at once. When all are full, requests wait for a stream.
    /// Too low makes streams wait; too high spends handshakes and memory on the peer.
    pub(crate) shared: usize,
    /// HTTP/1.1 connections at once, each of them with a request or idle. Too low makes
    /// requests wait; too high lets a slow endpoint take all sockets of both processes.
    pub(crate) whole: usize,
    /// Requests that wait for a connection; further ones fail at once. Too low refuses a
    /// burst; too high keeps requests that will be too late when their turn comes.
    pub(crate) waiting: usize,
    /// HTTP/1.1 connections that wait for a request. Too low reconnects after every
    /// burst; too high keeps sockets open on both ends.
    pub(crate) idle: usize,
    /// How long a connection may be unused, found late by at most a third.
    pub(crate) idle_for: Duration,
    /// How long a connection takes new requests, found late as above. Too long, and
    /// a certificate that has ended still vouches; too short spends handshakes.
    pub(crate) max_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            shared: 8,
            whole: 1_024,
            waiting: 10_000,
            idle: 32,
            idle_for: Duration::from_secs(90),
            max_age: Duration::from_secs(60 * 60),
        }
    }
}

impl PoolLimits {
    /// Until when a connection takes new requests: no longer than its server's certificate counts.
    pub(super) fn until(&self, opened: &Opened) -> Until {
        let ends = opened.tls.as_ref().and_then(|tls| tls.peer_not_after);
        Until {
            age: Instant::now() + self.max_age,
            certificate: ends.map(Lifetime::until),
        }
    }
}

/// Until when a connection takes new requests. The wall clock has a say about the certificate alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    age: Instant,
    certificate: Option<Lifetime>,
}

impl Until {
    /// Whether it takes none any more at `now`.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let ended = |lifetime: Lifetime| lifetime.ended().is_some();
        now >= self.age || self.certificate.is_some_and(ended)
    }
}
