//! Turns to work on handshakes.
//!
//! A handshake costs its server two key exchanges, a signature and the check of a chain before
//! anything is known about the client. A turn bounds how many worker threads do so at once, and is
//! held for one poll: from the moment there is something to work on until the network is awaited
//! again. Clients that stop hold none, however many they are.
//!
//! The newest wait is served first. While there is more to do than can be done, a server that
//! serves the oldest first finishes only handshakes that their clients have given up.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A bounded number of turns.
#[derive(Debug)]
pub struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    next: u64,
    /// By age, oldest first.
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
}

impl Turns {
    /// At most `most` turns at once, and at least one.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: most.max(1),
            next: 0,
            waiting: BTreeMap::new(),
        })))
    }

    /// All worker threads of the current runtime but one, which is left to those who are in.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn of_this_runtime() -> Arc<Self> {
        Self::new(Handle::current().metrics().num_workers() - 1)
    }

    /// Runs `future` with a turn for each of its polls, and none between them.
    pub async fn pace<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut wait = None;
        std::future::poll_fn(|cx| {
            let turn = std::task::ready!(self.poll_turn(&mut wait, cx));
            let polled = future.as_mut().poll(cx);
            drop(turn);
            polled
        })
        .await
    }

    fn poll_turn(self: &Arc<Self>, wait: &mut Option<Wait>, cx: &mut Context<'_>) -> Poll<Turn> {
        if wait.is_none() {
            match self.ask() {
                Ok(turn) => return Poll::Ready(turn),
                Err(new) => *wait = Some(new),
            }
        }
        let receiver = &mut wait.as_mut().expect("it was just made").receiver;
        let received = std::task::ready!(Pin::new(receiver).poll(cx));
        *wait = None;
        Poll::Ready(received.expect("a sender is dropped by its own wait alone"))
    }

    fn ask(self: &Arc<Self>) -> Result<Turn, Wait> {
        let mut state = self.state();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Turn(Arc::clone(self)));
        }
        let (sender, receiver) = oneshot::channel();
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, sender);
        Err(Wait {
            id,
            receiver,
            turns: Arc::clone(self),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work, passed on when dropped.
#[derive(Debug)]
struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match state.waiting.pop_last() {
            None => state.free += 1,
            Some((_, newest)) => {
                // A wait that ended meanwhile gives the turn back, and its drop passes it on.
                drop(state);
                drop(newest.send(Self(Arc::clone(&self.0))));
            }
        }
    }
}

/// One that waits for a turn.
#[derive(Debug)]
struct Wait {
    id: u64,
    receiver: oneshot::Receiver<Turn>,
    turns: Arc<Turns>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let own = self.turns.state().waiting.remove(&self.id);
        drop(own);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Is polled once, and pending.
    fn begin<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn t26_no_turn_is_held_while_the_network_is_awaited() {
        let turns = Turns::new(1);
        let mut stopped: Vec<_> = (0..100)
            .map(|_| Box::pin(turns.pace(std::future::pending::<()>())))
            .collect();
        for handshake in &mut stopped {
            assert!(begin(handshake).is_pending());
        }
        let mut member = Box::pin(turns.pace(std::future::ready(1)));
        assert_eq!(begin(&mut member), Poll::Ready(1));
    }

    #[test]
    fn the_newest_wait_is_served_first_and_one_that_ended_is_passed_over() {
        let turns = Turns::new(1);
        let working = turns.ask().expect("it is free");
        let mut waiting: Vec<_> = (0..3)
            .map(|n| Box::pin(turns.pace(std::future::ready(n))))
            .collect();
        for wait in &mut waiting {
            assert!(begin(wait).is_pending(), "there is one turn");
        }
        drop(waiting.pop());
        drop(working);
        assert!(begin(&mut waiting[0]).is_pending());
        assert_eq!(begin(&mut waiting[1]), Poll::Ready(1));
        assert_eq!(begin(&mut waiting[0]), Poll::Ready(0));
        drop(waiting);
        assert_eq!(turns.state().free, 1);
    }

    #[test]
    fn a_turn_that_nobody_fetches_is_given_back() {
        let turns = Turns::new(1);
        let working = turns.ask().expect("it is free");
        let mut late = Box::pin(turns.pace(std::future::ready(())));
        assert!(begin(&mut late).is_pending());
        drop(working);
        drop(late);
        assert_eq!(turns.state().free, 1);
        assert!(turns.state().waiting.is_empty());
    }
}
