//! The connections to one endpoint.
//!
//! Balancing is per endpoint, so is the pool. HTTP/2 connections are shared: one
//! is opened when the first request comes, another only when all are full. An
//! HTTP/1.1 connection carries one request and then waits for the next.
//!
//! Connections are driven by tasks of the runtime that opened them. If that
//! runtime ends, they count as closed and the next request opens a new one.

mod lease;
mod occupancy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use hyper::client::conn::{http1, http2};
use mesh_tls::config::Alpn;
use mesh_tls::handshake::TlsFacts;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};

pub(crate) use lease::{Held, Lease};
pub(crate) use occupancy::Occupancy;

use super::connect::{ConnectFailed, Dial, Opened, Sender};
use crate::Body;

/// The limits of one endpoint's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// HTTP/2 connections at once. When all are full, requests queue on the emptiest.
    /// Too low makes streams wait; too high spends handshakes and memory on the peer.
    pub(crate) shared: usize,
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
            idle: 32,
            idle_for: Duration::from_secs(90),
            max_age: Duration::from_secs(60 * 60),
        }
    }
}

impl PoolLimits {
    /// Until when a connection takes new requests: no longer than its server's certificate counts.
    fn until(&self, opened: &Opened) -> Instant {
        let ends = opened.tls.as_ref().and_then(|tls| tls.peer_not_after);
        let left = ends.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        Instant::now() + left.map_or(self.max_age, |left| left.min(self.max_age))
    }
}

/// How often one request looks for a connection before it gives up: between a look
/// and the next, others may have filled the connection that was opened for it.
const MAX_LOOKS: usize = 8;
/// HTTP/1.1 connections to one endpoint that are being opened at once. Beyond it requests wait
/// for their turn, or for a connection that has become free: a burst after a restart would
/// otherwise be as many handshakes at one moment.
const MAX_DIALS: usize = 64;
/// How long an idle HTTP/1.1 connection may take to be free; then another is taken.
const FREE_WITHIN: Duration = Duration::from_millis(20);

type Dialled = Option<Result<(), ConnectFailed>>;

/// The connections to one endpoint.
pub(crate) struct Pool {
    dial: Box<dyn Dial>,
    limits: PoolLimits,
    shared: ArcSwap<Vec<Arc<Shared>>>,
    state: Mutex<State>,
    /// Turns to open an HTTP/1.1 connection.
    turns: Semaphore,
    /// What the newest connection's handshake agreed on.
    tls: ArcSwapOption<TlsFacts>,
}

#[derive(Default)]
struct State {
    /// The one connection that is being opened, and all who wait for it.
    dialling: Option<watch::Receiver<Dialled>>,
    idle: Vec<Idle>,
}

/// An HTTP/2 connection.
struct Shared {
    sender: http2::SendRequest<Body>,
    occupancy: Arc<Occupancy>,
}

/// An HTTP/1.1 connection that waits for a request.
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
    until: Instant,
}

impl Idle {
    fn lease(self, home: &Arc<Pool>) -> Lease {
        Lease::Http1 {
            sender: self.sender,
            until: self.until,
            home: Arc::clone(home),
        }
    }
}

impl Pool {
    /// A pool that opens its connections with `dial`.
    pub(crate) fn new(dial: impl Dial, limits: PoolLimits) -> Arc<Self> {
        Arc::new(Self {
            dial: Box::new(dial),
            limits,
            shared: ArcSwap::default(),
            state: Mutex::default(),
            turns: Semaphore::new(MAX_DIALS),
            tls: ArcSwapOption::empty(),
        })
    }

    /// What the connections speak.
    pub(crate) fn version(&self) -> Alpn {
        self.dial.version()
    }

    /// What the newest connection's handshake agreed on; `None` for plaintext, and before one.
    pub(crate) fn tls(&self) -> Option<TlsFacts> {
        self.tls.load().as_deref().cloned()
    }

    /// A connection that takes a request now, if there is one.
    pub(crate) fn ready(self: &Arc<Self>) -> Option<Lease> {
        match self.version() {
            Alpn::Http1 => self.free(),
            Alpn::Http2 => self.shared.load().iter().find_map(|shared| shared.lease()),
        }
    }

    /// The HTTP/1.1 connection that became free last, if it takes a request at once.
    fn free(self: &Arc<Self>) -> Option<Lease> {
        let last = self.state().idle.pop_if(|idle| idle.sender.is_ready())?;
        Some(last.lease(self))
    }

    /// A connection that takes a request: one of those open, or a new one.
    ///
    /// # Errors
    ///
    /// [`ConnectFailed`] if a new one was needed and could not be had.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, ConnectFailed> {
        match self.version() {
            Alpn::Http1 => self.whole().await,
            Alpn::Http2 => self.stream().await,
        }
    }

    async fn stream(self: &Arc<Self>) -> Result<Lease, ConnectFailed> {
        let mut failure = None;
        for _ in 0..MAX_LOOKS {
            if let Some(lease) = self.ready() {
                return Ok(lease);
            }
            if self.shared.load().len() >= self.limits.shared
                && let Some(lease) = self.queue()
            {
                return Ok(lease);
            }
            let mut dialled = self.dialled();
            // Bound to a variable: the guard of `watch` must not live on in the match.
            let result = dialled.wait_for(Option::is_some).await.map(|r| r.clone());
            match result {
                Ok(Some(Ok(()))) => {}
                // One more could not be had: better a turn on one that is full than none.
                Ok(Some(Err(error))) => return self.queue().ok_or(error),
                // The runtime that was dialling has ended: dial again on this one.
                Ok(None) | Err(_) => failure = Some(ConnectFailed::abandoned()),
            }
        }
        self.queue()
            .ok_or_else(|| failure.unwrap_or_else(ConnectFailed::abandoned))
    }

    /// A turn on the emptiest connection, all being full.
    fn queue(&self) -> Option<Lease> {
        let shared = self.shared.load();
        let open = shared.iter().filter(|shared| !shared.sender.is_closed());
        let emptiest = open.min_by_key(|shared| shared.occupancy.in_flight())?;
        Some(Lease::Http2 {
            sender: emptiest.sender.clone(),
            slot: emptiest.occupancy.queue(),
        })
    }

    /// The outcome of the one dialling task, which is started if there is none. It outlives
    /// the request that started it, since others wait for it too.
    fn dialled(self: &Arc<Self>) -> watch::Receiver<Dialled> {
        let mut state = self.state();
        if let Some(dialling) = &state.dialling
            && dialling.has_changed().is_ok()
        {
            return dialling.clone();
        }
        let (tell, dialling) = watch::channel(None);
        state.dialling = Some(dialling.clone());
        drop(state);
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let result = pool.dial.dial().await;
            let result = result.map(|opened| pool.take_in(opened));
            pool.state().dialling = None;
            tell.send_replace(Some(result.map(drop)));
        });
        dialling
    }

    /// Takes a new connection in and keeps it going.
    fn take_in(self: &Arc<Self>, opened: Opened) -> Option<http1::SendRequest<Body>> {
        let until = self.limits.until(&opened);
        let Opened {
            sender,
            driver,
            tls,
        } = opened;
        self.tls.store(tls.map(Arc::new));
        match sender {
            Sender::Http1(sender) => {
                tokio::spawn(keep(
                    Arc::downgrade(self),
                    None,
                    driver,
                    (self.limits, until),
                ));
                Some(sender)
            }
            Sender::Http2(sender, occupancy) => {
                let shared = Arc::new(Shared { sender, occupancy });
                let kept = Some(Arc::clone(&shared));
                self.shared.rcu(|open| {
                    let open = open.iter().filter(|shared| !shared.sender.is_closed());
                    open.chain([&shared]).cloned().collect::<Vec<_>>()
                });
                tokio::spawn(keep(
                    Arc::downgrade(self),
                    kept,
                    driver,
                    (self.limits, until),
                ));
                None
            }
        }
    }

    async fn whole(self: &Arc<Self>) -> Result<Lease, ConnectFailed> {
        if let Some(lease) = self.waiting().await {
            return Ok(lease);
        }
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_| ConnectFailed::abandoned())?;
        // While we waited for our turn, another request may have ended.
        if let Some(lease) = self.waiting().await {
            return Ok(lease);
        }
        let opened = self.dial.dial().await?;
        let until = self.limits.until(&opened);
        let sender = self.take_in(opened).ok_or_else(ConnectFailed::abandoned)?;
        let home = Arc::clone(self);
        Ok(Lease::Http1 {
            sender,
            until,
            home,
        })
    }

    /// An HTTP/1.1 connection that waits for a request, if there is one.
    async fn waiting(self: &Arc<Self>) -> Option<Lease> {
        loop {
            // Bound to a variable: the guard must not live on across the await.
            let waiting = self.state().idle.pop();
            let mut idle = waiting?;
            let sender = &mut idle.sender;
            // One whose last response came before its upload had ended may not be free for long.
            let free = sender.is_ready()
                || matches!(timeout(FREE_WITHIN, sender.ready()).await, Ok(Ok(())));
            if free {
                return Some(idle.lease(self));
            }
        }
    }

    /// An HTTP/1.1 connection whose response has ended waits for the next request, or closes
    /// if it takes none after `until`.
    fn put_back(&self, sender: http1::SendRequest<Body>, until: Instant) {
        let since = Instant::now();
        let mut state = self.state();
        if since < until && !sender.is_closed() && state.idle.len() < self.limits.idle {
            state.idle.push(Idle {
                sender,
                since,
                until,
            });
        }
    }

    /// Lets go of a connection: it finishes what it carries and closes.
    fn retire(&self, gone: &Arc<Shared>) {
        self.shared.rcu(|open| {
            let open = open.iter().filter(|shared| !Arc::ptr_eq(shared, gone));
            open.cloned().collect::<Vec<_>>()
        });
    }

    fn reap_idle(&self, now: Instant) {
        let limit = self.limits.idle_for;
        self.state().idle.retain(|idle| {
            now - idle.since < limit && now < idle.until && !idle.sender.is_closed()
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("dial", &self.dial)
            .field("shared", &self.shared.load().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lease(&self) -> Option<Lease> {
        if self.sender.is_closed() {
            return None;
        }
        let slot = self.occupancy.take()?;
        let sender = self.sender.clone();
        Some(Lease::Http2 { sender, slot })
    }
}

/// Drives a connection, and retires it when it is unused or old.
async fn keep(
    pool: Weak<Pool>,
    mut shared: Option<Arc<Shared>>,
    mut driver: BoxFuture<'static, ()>,
    (limits, until): (PoolLimits, Instant),
) {
    let mut look = tokio::time::interval(limits.idle_for / 3);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut unused, mut taken) = (0, 0);
    loop {
        tokio::select! {
            () = &mut driver => break,
            now = look.tick() => {
                let Some(pool) = pool.upgrade() else {
                    // Whoever still waits for a response has a clone of its own.
                    shared = None;
                    continue;
                };
                pool.reap_idle(now);
                let Some(connection) = &shared else { continue };
                let idle = connection.occupancy.in_flight() == 0
                    && connection.occupancy.taken() == taken;
                unused = if idle { unused + 1 } else { 0 };
                taken = connection.occupancy.taken();
                if unused > 3 || now >= until {
                    pool.retire(connection);
                    shared = None;
                }
            }
        }
    }
    if let Some(pool) = pool.upgrade() {
        pool.reap_idle(Instant::now());
        if let Some(connection) = &shared {
            pool.retire(connection);
        }
    }
}
