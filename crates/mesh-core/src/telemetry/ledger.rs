//! What discovery is told of the traffic: the same counts as the series', but few and mergeable.
//!
//! A request adds to atomics of its flow; every few seconds the control thread
//! takes what they hold, and keeps it until discovery has acknowledged it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use mesh_policy::classify::Classification;
use mesh_policy::report::latency::{BUCKETS, bucket};
use mesh_policy::report::traffic::{Flow, FlowKey, Outcomes};

/// Flows of a process. Later ones are counted without their peer, and if that finds no
/// room either, not at all.
const MAX_FLOWS: usize = 1_000;

/// All flows of a process.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Flows>);

#[derive(Debug, Default)]
struct Flows {
    counts: HashMap<FlowKey, Arc<FlowCounts>, RandomState>,
    /// Where the next take begins: of more flows than one report holds, each has its turn.
    next: usize,
}

impl Ledger {
    /// The counts of a flow; `None` if there are too many.
    pub(crate) fn flow(&self, key: FlowKey) -> Option<Arc<FlowCounts>> {
        let mut flows = self.flows();
        let flows = &mut flows.counts;
        let mut key = key;
        if flows.len() >= MAX_FLOWS && !flows.contains_key(&key) {
            key.peer = None;
            if flows.len() >= 2 * MAX_FLOWS && !flows.contains_key(&key) {
                return None;
            }
        }
        Some(Arc::clone(flows.entry(key).or_default()))
    }

    /// Lets flows go that nobody counts into any more, once what they counted is taken.
    pub(super) fn sweep(&self) {
        let flows = &mut self.flows().counts;
        flows.retain(|_, counts| Arc::strong_count(counts) > 1 || !counts.is_empty());
    }

    /// Takes what at most `most` flows have counted since it was taken last.
    pub(crate) fn take(&self, most: usize) -> Vec<Flow> {
        let mut flows = self.flows();
        let Flows { counts, next } = &mut *flows;
        let begin = *next % counts.len().max(1);
        let in_turn = counts.iter().enumerate().skip(begin);
        let in_turn = in_turn.chain(counts.iter().enumerate().take(begin));
        let counted = in_turn.filter(|(_, (_, counts))| !counts.is_empty());
        let mut taken = Vec::new();
        for (place, (key, counts)) in counted.take(most) {
            *next = place + 1;
            taken.push(Flow {
                success: counts.success.take(),
                failure: counts.failure.take(),
                ..Flow::new(key.clone())
            });
        }
        taken
    }

    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one flow has counted and nobody has taken.
#[derive(Debug, Default)]
pub(crate) struct FlowCounts {
    success: Cells,
    failure: Cells,
}

impl FlowCounts {
    /// Counts how a request ended, and how long its first data took if there was an answer.
    pub(crate) fn count(&self, classification: Classification, latency: Option<Duration>) {
        let cells = match classification {
            Classification::Success => &self.success,
            Classification::Failure => &self.failure,
        };
        cells.count.fetch_add(1, Ordering::Relaxed);
        if let Some(latency) = latency {
            let buckets = cells.buckets.get_or_init(Cells::buckets);
            buckets[bucket(latency)].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_empty(&self) -> bool {
        let empty = |cells: &Cells| cells.count.load(Ordering::Relaxed) == 0;
        empty(&self.success) && empty(&self.failure)
    }
}

/// They are taken every few seconds, so 32 bits are enough.
#[derive(Debug, Default)]
struct Cells {
    count: AtomicU32,
    buckets: OnceLock<Box<[AtomicU32]>>,
}

impl Cells {
    fn buckets() -> Box<[AtomicU32]> {
        (0..BUCKETS).map(|_| AtomicU32::new(0)).collect()
    }

    fn take(&self) -> Outcomes {
        let mut taken = Outcomes {
            count: u64::from(self.count.swap(0, Ordering::Relaxed)),
            ..Outcomes::default()
        };
        for (number, cell) in self.buckets.get().into_iter().flatten().enumerate() {
            if cell.load(Ordering::Relaxed) > 0 {
                let count = cell.swap(0, Ordering::Relaxed);
                taken.latency.add(number, u64::from(count));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::report::traffic::Direction;

    use super::*;

    fn key(peer: usize) -> FlowKey {
        let peer = format!("spiffe://mesh.local/ns/shop/sa/c{peer}");
        FlowKey {
            direction: Direction::Inbound,
            service: "api.shop:80".parse().unwrap(),
            backend: None,
            peer: Some(peer.parse().unwrap()),
        }
    }

    #[test]
    fn what_was_taken_is_not_taken_again() {
        let ledger = Ledger::default();
        let flow = ledger.flow(key(1)).unwrap();
        flow.count(Classification::Success, Some(Duration::from_millis(3)));
        flow.count(Classification::Failure, None);
        let taken = ledger.take(10);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].success.count, 1);
        assert_eq!(taken[0].success.latency.count(), 1);
        assert_eq!(taken[0].failure.count, 1);
        assert_eq!(taken[0].failure.latency.count(), 0);
        assert!(ledger.take(10).is_empty());
        flow.count(Classification::Success, None);
        assert_eq!(ledger.take(10)[0].success.count, 1);
    }

    #[test]
    fn a_flow_that_nobody_counts_into_goes_once_it_was_taken() {
        let ledger = Ledger::default();
        let (ended, lives) = (ledger.flow(key(1)).unwrap(), ledger.flow(key(2)).unwrap());
        ended.count(Classification::Success, None);
        drop(ended);
        ledger.sweep();
        assert_eq!(
            ledger.take(10).len(),
            1,
            "it was let go with what it had counted"
        );
        ledger.sweep();
        assert_eq!(ledger.flows().counts.len(), 1);
        lives.count(Classification::Success, None);
        assert_eq!(ledger.take(10)[0].success.count, 1);
    }

    #[test]
    fn every_flow_has_its_turn_however_many_are_busy() {
        let ledger = Ledger::default();
        let flows: Vec<_> = (0..25)
            .map(|peer| ledger.flow(key(peer)).unwrap())
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            for flow in &flows {
                flow.count(Classification::Success, None);
            }
            let taken = ledger.take(10);
            assert_eq!(taken.len(), 10);
            seen.extend(taken.into_iter().map(|flow| flow.key.peer));
        }
        assert_eq!(seen.len(), 25);
    }

    #[test]
    fn o11_peers_beyond_the_bound_share_a_flow() {
        let ledger = Ledger::default();
        for peer in 0..100_000 {
            let flow = ledger.flow(key(peer)).unwrap();
            flow.count(Classification::Success, None);
        }
        let taken = ledger.take(usize::MAX);
        assert_eq!(taken.len(), MAX_FLOWS + 1);
        let sum: u64 = taken.iter().map(|flow| flow.success.count).sum();
        assert_eq!(sum, 100_000);
    }
}
