//! What waits for the writer: bounded by bytes, and apart for workloads and administrators, so that
//! neither can keep the other waiting for a place.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::store::{CommitError, Lane, LeaseId, Unavailable, Write};

/// Commits that are written at once.
const BATCH: usize = 64;
/// Bytes that are written at once, and one commit at the least.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The least that a commit counts, so that many small ones are bounded too.
const LEAST_BYTES: usize = 4 * 1024;
/// What waits for workloads: a thousand registrations, joins or ends of leases.
const WORKLOADS_BYTES: usize = 4 * 1024 * 1024;
/// What waits for administrators: four of the largest files.
const ADMINS_BYTES: usize = 32 * 1024 * 1024;

pub(super) type Reply<T> = oneshot::Sender<T>;

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Commit {
        writes: Vec<Write>,
        reply: Reply<Result<u64, CommitError>>,
    },
    DropLease {
        lease: LeaseId,
        reply: Reply<Result<u64, Unavailable>>,
    },
    Close {
        reply: Reply<()>,
    },
}

impl Ask {
    fn bytes(&self) -> usize {
        let size = |write: &Write| {
            let value = write.value.as_ref().map_or(0, bytes::Bytes::len);
            write.key.len() + value
        };
        match self {
            Self::Commit { writes, .. } => writes.iter().map(size).sum(),
            Self::DropLease { .. } | Self::Close { .. } => 0,
        }
    }
}

/// An ask, and the room that it takes until it is answered.
#[derive(Debug)]
struct Waiting {
    ask: Ask,
    lane: Lane,
    room: OwnedSemaphorePermit,
}

/// The side that asks.
#[derive(Debug)]
pub(super) struct Queue {
    asks: mpsc::UnboundedSender<Waiting>,
    workloads: Arc<Semaphore>,
    admins: Arc<Semaphore>,
}

/// The side that writes.
#[derive(Debug)]
pub(super) struct Backlog {
    asks: mpsc::UnboundedReceiver<Waiting>,
    workloads: VecDeque<Waiting>,
    admins: VecDeque<Waiting>,
}

/// A queue of which nothing was asked.
pub(super) fn queue() -> (Queue, Backlog) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queue = Queue {
        asks: sender,
        workloads: Arc::new(Semaphore::new(WORKLOADS_BYTES)),
        admins: Arc::new(Semaphore::new(ADMINS_BYTES)),
    };
    let backlog = Backlog {
        asks: receiver,
        workloads: VecDeque::new(),
        admins: VecDeque::new(),
    };
    (queue, backlog)
}

impl Queue {
    /// Waits for room, then for the answer.
    pub(super) async fn ask<T>(
        &self,
        lane: Lane,
        make: impl FnOnce(Reply<T>) -> Ask,
    ) -> Result<T, Unavailable> {
        let closed = || Unavailable::new("the store is closed");
        let (reply, answer) = oneshot::channel();
        let ask = make(reply);
        let (rooms, most) = match lane {
            Lane::Workloads => (&self.workloads, WORKLOADS_BYTES),
            Lane::Admins => (&self.admins, ADMINS_BYTES),
        };
        // One that is larger than all the room takes all of it.
        let bytes = ask.bytes().clamp(LEAST_BYTES, most);
        let bytes = u32::try_from(bytes).expect("the room of a lane is below 4 GiB");
        let room = Arc::clone(rooms).acquire_many_owned(bytes).await;
        let room = room.expect("the semaphore is never closed");
        let waiting = Waiting { ask, lane, room };
        self.asks.send(waiting).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }

    /// Waits until nobody writes any more.
    pub(super) async fn ended(&self) {
        self.asks.closed().await;
    }
}

impl Backlog {
    /// Waits for something to do, and takes as much as is written at once: half of it of each lane,
    /// or more where the other has less. `None` once all is done that was asked before the end.
    pub(super) fn next(&mut self) -> Option<Batch> {
        if self.workloads.is_empty() && self.admins.is_empty() {
            let first = self.asks.blocking_recv()?;
            self.take(first);
        }
        while let Ok(next) = self.asks.try_recv() {
            self.take(next);
        }
        let mut batch = Batch::default();
        for share in [BATCH / 2, BATCH] {
            batch.fill(&mut self.admins, share);
            batch.fill(&mut self.workloads, 2 * share);
        }
        Some(batch)
    }

    fn take(&mut self, waiting: Waiting) {
        match waiting.lane {
            Lane::Workloads => self.workloads.push_back(waiting),
            Lane::Admins => self.admins.push_back(waiting),
        }
    }

    /// Lets nobody ask any more.
    pub(super) fn close(&mut self) {
        self.asks.close();
    }
}

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) asks: Vec<Ask>,
    bytes: usize,
    /// Given back when all of it is answered.
    pub(super) rooms: Vec<OwnedSemaphorePermit>,
}

impl Batch {
    /// Takes from `lane` until the batch has `most` asks.
    fn fill(&mut self, lane: &mut VecDeque<Waiting>, most: usize) {
        while self.asks.len() < most.min(BATCH)
            && let Some(next) = lane.front()
            && (self.asks.is_empty() || self.bytes + next.ask.bytes() <= BATCH_BYTES)
            && let Some(next) = lane.pop_front()
        {
            self.bytes += next.ask.bytes();
            self.asks.push(next.ask);
            self.rooms.push(next.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn commit(bytes: usize) -> impl FnOnce(Reply<Result<u64, CommitError>>) -> Ask {
        let writes = vec![Write::put("k", vec![0; bytes])];
        move |reply| Ask::Commit { writes, reply }
    }

    /// Asks `count` times, as far as there is room, and waits for no answer.
    fn ask(queue: &Queue, lane: Lane, (count, bytes): (usize, usize)) {
        for _ in 0..count {
            let asked = queue.ask(lane, commit(bytes)).now_or_never();
            assert!(asked.is_none(), "nobody answers");
        }
    }

    fn sizes(batch: &Batch) -> Vec<usize> {
        batch.asks.iter().map(|ask| ask.bytes() - 1).collect()
    }

    #[test]
    fn an_administrator_does_not_wait_behind_a_flood_of_workloads() {
        let (queue, mut backlog) = queue();
        ask(&queue, Lane::Workloads, (5_000, 1));
        ask(&queue, Lane::Admins, (1, 7));
        let sizes = sizes(&backlog.next().unwrap());
        assert_eq!(sizes.len(), BATCH);
        assert_eq!(sizes[0], 7, "it is in the first batch");
        let waiting = backlog.workloads.len();
        assert!(waiting <= WORKLOADS_BYTES / LEAST_BYTES, "{waiting}");
    }

    #[test]
    fn a_flood_of_administrators_leaves_workloads_half_of_each_batch() {
        let (queue, mut backlog) = queue();
        ask(&queue, Lane::Admins, (500, 7));
        ask(&queue, Lane::Workloads, (500, 1));
        let sizes = sizes(&backlog.next().unwrap());
        assert_eq!(sizes.len(), BATCH);
        let of_workloads = sizes.iter().filter(|size| **size == 1).count();
        assert_eq!(of_workloads, BATCH / 2);
    }

    #[test]
    fn what_waits_and_what_is_written_at_once_is_bounded_by_bytes() {
        let (queue, mut backlog) = queue();
        let large = 8 * 1024 * 1024;
        ask(&queue, Lane::Admins, (100, large));
        let batch = backlog.next().unwrap();
        let waiting: usize = backlog.admins.iter().map(|one| one.ask.bytes()).sum();
        let written: usize = sizes(&batch).iter().sum();
        assert!(written > 0 && written <= BATCH_BYTES, "{written}");
        assert!(waiting + written <= ADMINS_BYTES + 100, "{waiting}");
        drop(batch);
        // One that is larger than all there is goes alone.
        let (queue, mut backlog) = super::queue();
        ask(&queue, Lane::Workloads, (1, BATCH_BYTES * 2));
        assert_eq!(backlog.next().unwrap().asks.len(), 1);
    }
}
