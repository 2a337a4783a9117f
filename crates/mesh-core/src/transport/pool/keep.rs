//! Keeps a connection going, and lets go of it when it is unused or old.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, MissedTickBehavior};

use super::shared::Shared;
use super::{Pool, PoolLimits, Until};

/// A connection that a task keeps.
pub(super) struct Kept {
    pool: Weak<Pool>,
    waited_for: Arc<AtomicBool>,
    limits: PoolLimits,
    /// `None` for one of HTTP/1.1, which is with its request or among the idle ones.
    shared: Option<Arc<Shared>>,
    /// Notices the end of the runtime.
    open: Open,
    /// Until when it takes requests.
    until: Until,
}

impl Kept {
    pub(super) fn http1(pool: &Arc<Pool>, until: Until) -> Self {
        Self::new(pool, until, Open::http1(pool), None)
    }

    pub(super) fn http2(pool: &Arc<Pool>, shared: Arc<Shared>, until: Until) -> Self {
        Self::new(pool, until, Open::http2(pool), Some(shared))
    }

    fn new(pool: &Arc<Pool>, until: Until, open: Open, shared: Option<Arc<Shared>>) -> Self {
        Self {
            pool: Arc::downgrade(pool),
            waited_for: Arc::clone(&pool.waited_for),
            limits: pool.limits,
            shared,
            open,
            until,
        }
    }

    /// Drives the connection to its end.
    pub(super) async fn drive(mut self, mut driver: BoxFuture<'static, ()>) {
        let (home, waited_for) = (Weak::clone(&self.pool), Arc::clone(&self.waited_for));
        // Only the driver makes a connection ready for its next request, or raises the number
        // of its streams.
        let mut driver = poll_fn(move |cx| {
            let driven = driver.as_mut().poll(cx);
            if waited_for.load(Ordering::SeqCst)
                && let Some(pool) = home.upgrade()
            {
                pool.serve();
            }
            driven
        });
        let mut look = tokio::time::interval(self.limits.idle_for / 3);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut unused, mut taken) = (0, 0);
        loop {
            tokio::select! {
                () = &mut driver => break,
                now = look.tick() => {
                    let Some(pool) = self.pool.upgrade() else {
                        // Whoever still waits for a response has a clone of its own.
                        self.shared = None;
                        continue;
                    };
                    pool.reap_idle(now);
                    let Some(connection) = &self.shared else { continue };
                    let idle = connection.occupancy.in_flight() == 0
                        && connection.occupancy.taken() == taken;
                    unused = if idle { unused + 1 } else { 0 };
                    taken = connection.occupancy.taken();
                    if unused > 3 || self.until.is_over(now) {
                        pool.retire(connection);
                        pool.begin_dial();
                        self.shared = None;
                    }
                }
            }
        }
        self.end();
    }

    /// The connection has closed: there is room for another.
    fn end(self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        pool.reap_idle(Instant::now());
        if let Some(connection) = &self.shared {
            pool.retire(connection);
        }
        self.open.end();
        pool.begin_dial();
    }
}

/// An open connection: one of HTTP/1.1 is counted, and where the runtime of either ends before it,
/// those who wait are told.
struct Open {
    pool: Weak<Pool>,
    counted: usize,
    is_over: bool,
}

impl Open {
    fn http1(pool: &Arc<Pool>) -> Self {
        Self::new(pool, 1)
    }

    /// The pool's list of connections counts those of HTTP/2.
    fn http2(pool: &Arc<Pool>) -> Self {
        Self::new(pool, 0)
    }

    fn new(pool: &Arc<Pool>, counted: usize) -> Self {
        pool.state().open += counted;
        Self {
            pool: Arc::downgrade(pool),
            counted,
            is_over: false,
        }
    }

    fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        pool.state().open -= self.counted;
        if !self.is_over {
            // The runtime has ended. Those who wait on another one dial there.
            pool.abandon();
        }
    }
}
