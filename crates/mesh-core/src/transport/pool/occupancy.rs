//! How many streams an HTTP/2 connection carries, and how many its peer allows.

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
        let limit = limit.min(MAX_STREAMS);
        // Before the driver looks whether requests wait; most polls change nothing.
        if self.limit.load(Ordering::Relaxed) != limit {
            self.limit.store(limit, Ordering::SeqCst);
        }
    }

    /// Takes a stream if there is one.
    pub(super) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        // Never beyond the limit for a moment: another taker would find it full and wait.
        let one_more = |taken| (taken < limit).then_some(taken + 1);
        let order = Ordering::SeqCst;
        let took = self.in_flight.fetch_update(order, order, one_more).is_ok();
        if took {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        took
    }

    /// Takes a stream that may have to wait for its turn.
    pub(super) fn queue(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a stream back.
    pub(super) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_free_again_when_it_is_given_back() {
        let occupancy = Occupancy::new(2);
        assert!(occupancy.take() && occupancy.take());
        assert!(!occupancy.take());
        assert_eq!(occupancy.in_flight(), 2);
        occupancy.release();
        assert!(occupancy.take());
    }

    #[test]
    fn a_peer_that_allows_more_is_believed_up_to_our_own_bound() {
        let occupancy = Occupancy::new(0);
        assert!(!occupancy.take());
        occupancy.allow(usize::MAX);
        let taken = (0..=MAX_STREAMS).filter(|_| occupancy.take());
        assert_eq!(taken.count(), MAX_STREAMS);
    }
}
