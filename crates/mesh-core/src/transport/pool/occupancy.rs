//! How many streams an HTTP/2 connection carries, and how many its peer allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Streams we put on one connection at most, whatever the peer allows: beyond it
/// one lost packet stalls too many requests.
const MAX_STREAMS: usize = 1_000;

/// Counts the streams of one connection.
///
/// Hyper queues without a bound what its peer does not allow yet, so that we
/// must know before we hand a request in.
#[derive(Debug)]
pub(crate) struct Occupancy {
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    /// All that were ever taken: an unchanged number is an idle connection.
    taken: AtomicU64,
}

impl Occupancy {
    /// An empty connection whose peer allows `limit` streams.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit.min(MAX_STREAMS)),
            in_flight: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// The peer now allows `limit` streams.
    pub(crate) fn allow(&self, limit: usize) {
        self.limit.store(limit.min(MAX_STREAMS), Ordering::Relaxed);
    }

    /// Takes a stream if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(Arc::clone(self));
        (before < self.limit.load(Ordering::Relaxed)).then(|| {
            self.taken.fetch_add(1, Ordering::Relaxed);
            slot
        })
    }

    /// Takes a stream that may have to wait for its turn.
    pub(super) fn queue(self: &Arc<Self>) -> Slot {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Slot(Arc::clone(self))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One stream; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Occupancy>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_free_again_when_its_slot_is_dropped() {
        let occupancy = Arc::new(Occupancy::new(2));
        let first = occupancy.take();
        let second = occupancy.take();
        assert!(first.is_some() && second.is_some());
        assert!(occupancy.take().is_none());
        assert_eq!(occupancy.in_flight(), 2);
        drop(first);
        assert!(occupancy.take().is_some());
    }

    #[test]
    fn a_peer_that_allows_more_is_believed_up_to_our_own_bound() {
        let occupancy = Arc::new(Occupancy::new(0));
        assert!(occupancy.take().is_none());
        occupancy.allow(usize::MAX);
        let slots: Vec<_> = (0..=MAX_STREAMS).map(|_| occupancy.take()).collect();
        assert_eq!(slots.iter().flatten().count(), MAX_STREAMS);
    }
}
