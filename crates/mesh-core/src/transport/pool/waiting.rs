//! Requests that wait for a connection: first come, first served.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::{Lease, Pool};
use crate::transport::ConnectFailed;

/// What a request that waits is given in the end.
pub(super) type Given = Result<Lease, ConnectFailed>;

/// The requests that wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiters {
    next: u64,
    by_ticket: BTreeMap<u64, oneshot::Sender<Given>>,
    /// Whether there are any, for those who must not take the lock to know.
    any: Arc<AtomicBool>,
}

impl Waiters {
    /// None yet; `any` is true for as long as there are some.
    pub(super) fn new(any: Arc<AtomicBool>) -> Self {
        Self {
            any,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    /// The place of one more, behind all others.
    pub(super) fn join(&mut self, home: &Arc<Pool>) -> Waiting {
        let (give, given) = oneshot::channel();
        let ticket = self.next;
        self.next += 1;
        self.by_ticket.insert(ticket, give);
        self.note();
        Waiting {
            home: Arc::clone(home),
            ticket,
            given,
        }
    }

    /// Answers the first. An answer that nobody took comes back: it is dropped without the
    /// lock, since a lease that is dropped takes the lock.
    pub(super) fn answer(&mut self, answer: Given) -> Result<(), Given> {
        let Some((_, first)) = self.by_ticket.pop_first() else {
            return Err(answer);
        };
        self.note();
        first.send(answer)
    }

    /// Whether `ticket` still waited, which it does no longer.
    fn leave(&mut self, ticket: u64) -> bool {
        let waited = self.by_ticket.remove(&ticket).is_some();
        self.note();
        waited
    }

    fn note(&self) {
        // Ordered before the look at the connections that follows, as the end of a stream
        // is ordered before the look at this.
        self.any.store(!self.is_empty(), Ordering::SeqCst);
    }
}

/// The wait of one request. Dropped, it gives up its place, and what it was given goes to the next.
pub(super) struct Waiting {
    home: Arc<Pool>,
    ticket: u64,
    given: oneshot::Receiver<Given>,
}

impl Future for Waiting {
    type Output = Given;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Given> {
        let given = Pin::new(&mut self.given).poll(cx);
        given.map(|given| given.unwrap_or_else(|_| Err(self.home.abandoned())))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waited = self.home.state().waiters.leave(self.ticket);
        // Answers are given under the lock, so there is one by now or never.
        if !waited && let Ok(Ok(lease)) = self.given.try_recv() {
            lease.give_back();
        }
    }
}
