//! A connection of HTTP/2, which many requests share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use hyper::client::conn::http2;

use super::{Lease, Occupancy, Pool};
use crate::Body;

/// An HTTP/2 connection.
pub(super) struct Shared {
    pub(super) sender: http2::SendRequest<Body>,
    pub(super) occupancy: Arc<Occupancy>,
    pub(super) home: Weak<Pool>,
    /// Whether requests wait for a stream.
    pub(super) waited_for: Arc<AtomicBool>,
}

impl Shared {
    /// The right to one stream, if one is free.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let free = !self.sender.is_closed() && self.occupancy.take();
        free.then(|| self.slot())
    }

    /// The right to one stream, which may have to wait for its turn.
    pub(super) fn queue(self: &Arc<Self>) -> Lease {
        self.occupancy.queue();
        self.slot()
    }

    fn slot(self: &Arc<Self>) -> Lease {
        Lease::Http2 {
            sender: self.sender.clone(),
            slot: Slot(Arc::clone(self)),
        }
    }
}

/// One stream; it ends when this is dropped, and whoever waits takes it.
pub(crate) struct Slot(Arc<Shared>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.occupancy.release();
        if self.0.waited_for.load(Ordering::SeqCst)
            && let Some(pool) = self.0.home.upgrade()
        {
            pool.serve();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.0.occupancy).finish()
    }
}
