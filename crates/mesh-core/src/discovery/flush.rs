//! Waits until discovery has been told everything that was counted.
//!
//! Reports are periodic, and a process that ends between two of them would take
//! the last seconds of its traffic with it: a short program all of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How long the end of a process waits for its last report: discovery may be gone.
const LIMIT: Duration = Duration::from_secs(1);

/// Both ends of the question. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Flush {
    /// Counts those who asked.
    asked: Arc<watch::Sender<u64>>,
    /// Of whom so many have their answer.
    done: Arc<watch::Sender<u64>>,
    /// Whether nothing shall be told after it.
    last: Arc<watch::Sender<bool>>,
    /// Wakes the uplink.
    changed: Arc<Notify>,
}

impl Flush {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self {
            asked: Arc::new(watch::Sender::new(0)),
            done: Arc::new(watch::Sender::new(0)),
            last: Arc::new(watch::Sender::new(false)),
            changed,
        }
    }

    /// The same as [`Flush::all`]; nothing is told after it.
    pub(super) async fn last(&self) {
        self.last.send_replace(true);
        self.all().await;
    }

    /// Ends once what was asked for is the last that is told.
    pub(super) async fn is_last(&self) {
        let mut last = self.last.subscribe();
        // The sender lives as long as `self`.
        drop(last.wait_for(|last| *last).await);
    }

    /// Has everything told that was counted so far; gives up after a second.
    pub(crate) async fn all(&self) {
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        self.changed.notify_one();
        let mut done = self.done.subscribe();
        let told = done.wait_for(|done| *done >= mine);
        if tokio::time::timeout(LIMIT, told).await.is_err() {
            tracing::debug!("the last report has not reached discovery in time");
        }
    }

    /// The number of the last who asked and waits; `None` if nobody does.
    pub(super) fn asked(&self) -> Option<u64> {
        let asked = *self.asked.borrow();
        (asked > *self.done.borrow()).then_some(asked)
    }

    /// Everybody up to number `asked` has their answer.
    pub(super) fn done(&self, asked: u64) {
        self.done.send_replace(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_waits_for_the_answer_to_their_own_question() {
        let flush = Flush::new(Arc::default());
        assert_eq!(flush.asked(), None);
        let mut first = tokio_test::task::spawn(flush.all());
        assert!(first.poll().is_pending());
        assert_eq!(flush.asked(), Some(1));
        let mut second = tokio_test::task::spawn(flush.all());
        assert!(second.poll().is_pending());
        flush.done(1);
        assert!(first.poll().is_ready());
        assert!(second.poll().is_pending(), "what came since is not told");
        flush.done(2);
        assert!(second.poll().is_ready());
        assert_eq!(flush.asked(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_second() {
        let begun = tokio::time::Instant::now();
        Flush::new(Arc::default()).all().await;
        assert_eq!(begun.elapsed(), LIMIT);
    }
}
