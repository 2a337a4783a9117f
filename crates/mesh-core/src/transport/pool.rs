//! The connections to one endpoint.
//!
//! Balancing is per endpoint, so is the pool. HTTP/2 connections are shared: one
//! is opened when the first request comes, another only when all are full. An
//! HTTP/1.1 connection carries one request and then waits for the next.
//!
//! ```text
//!  request ──ready?──▶ lease ──▶ sent ──▶ put back ─┐
//!     │ no                                          │ first come, first served
//!     ▼                                             ▼
//!  Waiters ◀──────── new connections ◀── dials     Waiters, else idle
//! ```
//!
//! A request that finds no connection free waits in line and has one opened, unless enough are
//! being opened or open already. The first connection that is free serves the first in line,
//! wherever it comes from.
//!
//! Connections are driven by tasks of the runtime that opened them. If that
//! runtime ends, they count as closed and the next request opens a new one.

mod dialling;
mod keep;
mod lease;
mod limits;
mod occupancy;
mod shared;
#[cfg(test)]
mod tests;
mod waiting;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use hyper::client::conn::http1;
use mesh_tls::config::Alpn;
use mesh_tls::handshake::TlsFacts;
use metrics::Counter;
use tokio::time::{Instant, timeout_at};

use keep::Kept;
pub(crate) use lease::{Held, Lease};
pub(crate) use limits::{PoolLimits, Until};
pub(crate) use occupancy::Occupancy;
use shared::Shared;
use waiting::{Waiters, Waiting};

use super::connect::{ConnectFailed, Dial, Opened, Sender};
use crate::Body;

/// How often a request that waits begins anew because the runtime that dialled for it has ended.
const MAX_LOOKS: usize = 8;
/// How long a request waits for an HTTP/1.1 connection that is about to be free before it has
/// another one opened.
const FREE_WITHIN: Duration = Duration::from_millis(20);

/// The connections to one endpoint.
pub(crate) struct Pool {
    dial: Box<dyn Dial>,
    limits: PoolLimits,
    shared: ArcSwap<Vec<Arc<Shared>>>,
    state: Mutex<State>,
    /// Whether requests wait, for those who do not take the lock.
    waited_for: Arc<AtomicBool>,
    /// Requests that waited because there were as many connections as there may be.
    limited: Counter,
    /// What the newest connection's handshake agreed on.
    tls: ArcSwapOption<TlsFacts>,
}

#[derive(Default)]
struct State {
    waiters: Waiters,
    /// Connections that are being opened.
    dialling: usize,
    /// HTTP/1.1 connections that are open, the idle ones included.
    open: usize,
    idle: Vec<Idle>,
}

impl State {
    /// The HTTP/1.1 connection that became free last and takes a request at once.
    fn free(&mut self) -> Option<Idle> {
        let mut idle = self.idle.iter();
        let place = idle.rposition(|idle| idle.sender.is_ready())?;
        Some(self.idle.remove(place))
    }
}

/// An HTTP/1.1 connection that waits for a request.
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
    until: Until,
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
    /// A pool that opens its connections with `dial`, and counts in `limited` the requests that
    /// waited because it may open no more.
    pub(crate) fn new(dial: impl Dial, limits: PoolLimits, limited: Counter) -> Arc<Self> {
        let waited_for = Arc::new(AtomicBool::new(false));
        let state = State {
            waiters: Waiters::new(Arc::clone(&waited_for)),
            ..State::default()
        };
        Arc::new(Self {
            dial: Box::new(dial),
            limits,
            shared: ArcSwap::default(),
            state: Mutex::new(state),
            waited_for,
            limited,
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

    /// A connection that takes a request now, if there is one and nobody came first.
    pub(crate) fn ready(self: &Arc<Self>) -> Option<Lease> {
        match self.version() {
            Alpn::Http1 => {
                let mut state = self.state();
                let free = state.waiters.is_empty().then(|| state.free());
                Some(free??.lease(self))
            }
            Alpn::Http2 => {
                let nobody = !self.waited_for.load(Ordering::Relaxed);
                nobody.then(|| self.stream())?
            }
        }
    }

    /// A free stream of an HTTP/2 connection.
    fn stream(&self) -> Option<Lease> {
        self.shared.load().iter().find_map(Shared::lease)
    }

    /// A connection that takes a request: the first that is free, or a new one.
    ///
    /// Dropped, the wait gives its place up. The new connection comes all the same.
    ///
    /// # Errors
    ///
    /// [`ConnectFailed`] if a new one was needed and could not be had, or too many wait already.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, ConnectFailed> {
        for _ in 1..MAX_LOOKS {
            match self.wait().await {
                Err(error) if error.is_because_of::<Abandoned>() => {}
                given => return given,
            }
        }
        self.wait().await
    }

    async fn wait(self: &Arc<Self>) -> Result<Lease, ConnectFailed> {
        let mut waiting = self.join()?;
        let looked = Instant::now();
        if self.has_idle() {
            // A connection whose response has just ended is free in a moment.
            if let Ok(given) = timeout_at(looked + FREE_WITHIN, &mut waiting).await {
                return given;
            }
            // One whose response came before its upload had ended may not be free for long.
            let mut state = self.state();
            let idle = &mut state.idle;
            idle.retain(|idle| idle.since > looked || idle.sender.is_ready());
        }
        if !self.begin_dial() {
            self.limited.increment(1);
        }
        waiting.await
    }

    /// A place behind all who wait, unless they are too many.
    fn join(self: &Arc<Self>) -> Result<Waiting, ConnectFailed> {
        let mut state = self.state();
        let waiting = state.waiters.len();
        if waiting >= self.limits.waiting {
            let crowded = Crowded { waiting };
            return Err(ConnectFailed::untried(self.dial.address(), crowded));
        }
        let waiting = state.waiters.join(self);
        drop(state);
        self.serve();
        Ok(waiting)
    }

    fn has_idle(&self) -> bool {
        !self.state().idle.is_empty()
    }

    /// Gives what is free to those who wait, in their order.
    fn serve(self: &Arc<Self>) {
        // Before the guard, so that it is dropped after it.
        let mut untaken = Ok(());
        let mut state = self.state();
        while untaken.is_ok() && !state.waiters.is_empty() {
            let free = match self.version() {
                Alpn::Http1 => state.free().map(|idle| idle.lease(self)),
                Alpn::Http2 => self.stream(),
            };
            let Some(lease) = free else { break };
            untaken = state.waiters.answer(Ok(lease));
        }
    }

    /// Takes a new connection in and keeps it going; those who wait come first.
    fn take_in(self: &Arc<Self>, opened: Opened) {
        let until = self.limits.until(&opened);
        let Opened {
            sender,
            driver,
            tls,
        } = opened;
        self.tls.store(tls.map(Arc::new));
        match sender {
            Sender::Http1(sender) => {
                tokio::spawn(Kept::http1(self, until).drive(driver));
                self.offer(sender, until);
            }
            Sender::Http2(sender, occupancy) => {
                let shared = Arc::new(Shared {
                    sender,
                    occupancy,
                    home: Arc::downgrade(self),
                    waited_for: Arc::clone(&self.waited_for),
                });
                self.shared.rcu(|open| {
                    let open = open.iter().filter(|shared| !shared.sender.is_closed());
                    open.chain([&shared]).cloned().collect::<Vec<_>>()
                });
                tokio::spawn(Kept::http2(self, shared, until).drive(driver));
                self.serve();
            }
        }
    }

    /// A new HTTP/1.1 connection: it takes a request before it has been ready once.
    fn offer(self: &Arc<Self>, sender: http1::SendRequest<Body>, until: Until) {
        let since = Instant::now();
        let idle = Idle {
            sender,
            since,
            until,
        };
        let mut state = self.state();
        if let Err(Ok(lease)) = state.waiters.answer(Ok(idle.lease(self))) {
            drop(state);
            lease.give_back();
        }
    }

    /// An HTTP/1.1 connection whose response has ended waits for the next request, or closes
    /// if it takes none after `until`.
    fn put_back(self: &Arc<Self>, sender: http1::SendRequest<Body>, until: Until) {
        let since = Instant::now();
        // Before the lock: the certificate's end is looked up on two clocks.
        let is_over = until.is_over(since) || sender.is_closed();
        let mut state = self.state();
        let is_waited_for = !state.waiters.is_empty();
        let has_room = is_waited_for || state.idle.len() < self.limits.idle;
        if !is_over && has_room {
            state.idle.push(Idle {
                sender,
                since,
                until,
            });
        }
        drop(state);
        if is_waited_for {
            self.serve();
        }
    }

    /// A connection could not be had. While others are open, a full one of HTTP/2 is better
    /// than none, and one request alone fails for one of HTTP/1.1: the endpoint is there, but
    /// may be leaving. So it is while other dials are under way. With none, all who wait fail.
    fn fail(self: &Arc<Self>, error: &ConnectFailed) {
        let mut untaken = Ok(());
        let mut state = self.state();
        while untaken.is_ok() && !state.waiters.is_empty() {
            let turn = self.emptiest().map(|shared| shared.queue());
            untaken = state.waiters.answer(turn.ok_or_else(|| error.clone()));
            // This dial is one of those under way until its turn ends.
            if state.open > 0 || state.dialling > 1 {
                break;
            }
        }
    }

    /// The HTTP/2 connection with the fewest streams.
    fn emptiest(&self) -> Option<Arc<Shared>> {
        let shared = self.shared.load();
        let open = shared.iter().filter(|shared| !shared.sender.is_closed());
        open.min_by_key(|shared| shared.occupancy.in_flight())
            .cloned()
    }

    /// A runtime that opened or kept a connection has ended: those who wait on others begin anew.
    fn abandon(&self) {
        let mut state = self.state();
        while !state.waiters.is_empty() {
            // Whoever has gone meanwhile needs no answer, and the error holds nothing.
            drop(state.waiters.answer(Err(self.abandoned())));
        }
    }

    fn abandoned(&self) -> ConnectFailed {
        ConnectFailed::untried(self.dial.address(), Abandoned)
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
        let mut state = self.state();
        state.idle.retain(|idle| {
            now - idle.since < limit && !idle.until.is_over(now) && !idle.sender.is_closed()
        });
        let beyond = state.idle.len().saturating_sub(self.limits.idle);
        state.idle.drain(..beyond);
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

/// The runtime that was dialling ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection that was being opened went away: its runtime ended")]
struct Abandoned;

/// More requests wait than may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "{waiting} requests wait for a connection already: start more instances, or lower the time limits of the callers"
)]
struct Crowded {
    waiting: usize,
}
