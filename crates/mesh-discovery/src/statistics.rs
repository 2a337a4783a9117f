//! What processes have reported of their traffic, for a while and in memory.
//!
//! Slots of ten seconds, kept for ten minutes, apart by the identity that reported:
//! a process is believed about its own traffic and no other's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_policy::report::traffic::{Flow, FlowKey, Traffic};
use tokio::time::Instant;

/// The time that one slot holds.
const SLOT: Duration = Duration::from_secs(10);
/// How many slots are kept.
const SLOTS: u64 = 61;
/// The longest window that can be asked for.
pub(crate) const LONGEST: Duration = Duration::from_secs(SLOT.as_secs() * (SLOTS - 1));
/// Identities that are kept; what later ones report is dropped until one has been silent for long.
const MAX_IDENTITIES: usize = 10_000;
/// Processes of one identity whose numbers are kept; the one that is silent longest goes.
const MAX_SOURCES: usize = 2_000;
/// Flows of one identity in one slot; further ones are dropped.
const MAX_FLOWS: usize = 2_000;

/// The traffic of all processes.
#[derive(Debug)]
pub(crate) struct Statistics {
    started: Instant,
    reporters: Mutex<BTreeMap<Identity, Reporter>>,
}

/// What one identity has reported.
#[derive(Debug, Default)]
struct Reporter {
    sources: BTreeMap<String, Source>,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    sequence: u64,
    slot: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    flows: BTreeMap<FlowKey, Flow>,
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            reporters: Mutex::default(),
        }
    }

    /// Counts what `identity` reports, once; how many flows found no room.
    pub(crate) fn add(&self, identity: &Identity, traffic: Traffic) -> usize {
        let now = self.slot();
        let mut reporters = self.lock();
        if reporters.len() >= MAX_IDENTITIES && !reporters.contains_key(identity) {
            reporters.retain(|_, reporter| reporter.trim(now));
            if reporters.len() >= MAX_IDENTITIES {
                return traffic.flows.len();
            }
        }
        let reporter = reporters.entry(identity.clone()).or_default();
        reporter.trim(now);
        reporter.add(now, traffic)
    }

    /// What was reported in the last `window`, by reporter, and the time that it is of: the
    /// whole slots of the window, and the one that is being filled.
    pub(crate) fn within(&self, window: Duration) -> (Duration, Vec<(Identity, Flow)>) {
        let now = self.slot();
        let slots = window
            .as_secs()
            .div_ceil(SLOT.as_secs())
            .clamp(1, SLOTS - 1)
            + 1;
        let begun = self.started.elapsed().as_secs() % SLOT.as_secs();
        let covered = Duration::from_secs((slots - 1) * SLOT.as_secs() + begun);
        let reporters = self.lock();
        let merged = reporters.iter().flat_map(|(identity, reporter)| {
            let mut flows = BTreeMap::<&FlowKey, Flow>::new();
            let recent = reporter.slots.iter();
            for slot in recent.filter(|slot| slot.number + slots > now) {
                for (key, flow) in &slot.flows {
                    let sum = flows.entry(key);
                    sum.or_insert_with(|| Flow::new(key.clone())).merge(flow);
                }
            }
            flows.into_values().map(|flow| (identity.clone(), flow))
        });
        (covered, merged.collect())
    }

    fn slot(&self) -> u64 {
        self.started.elapsed().as_secs() / SLOT.as_secs()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Identity, Reporter>> {
        self.reporters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter {
    /// Forgets what is too old; whether anything is left.
    fn trim(&mut self, now: u64) -> bool {
        while let Some(slot) = self.slots.front()
            && slot.number + SLOTS <= now
        {
            self.slots.pop_front();
        }
        self.sources.retain(|_, source| source.slot + SLOTS > now);
        !self.slots.is_empty()
    }

    fn add(&mut self, now: u64, traffic: Traffic) -> usize {
        let told = Source {
            sequence: traffic.sequence,
            slot: now,
        };
        let before = self.sources.get(&traffic.source);
        if before.is_some_and(|before| before.sequence >= traffic.sequence) {
            return 0;
        }
        self.sources.insert(traffic.source, told);
        if self.sources.len() > MAX_SOURCES {
            let oldest = self.sources.iter().min_by_key(|(_, source)| source.slot);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.map(|name| self.sources.remove(&name));
        }
        if self.slots.back().is_none_or(|slot| slot.number < now) {
            let flows = BTreeMap::new();
            self.slots.push_back(Slot { number: now, flows });
        }
        let slot = self.slots.back_mut().expect("there is a slot for now");
        let mut dropped = 0;
        for flow in traffic.flows {
            if let Some(sum) = slot.flows.get_mut(&flow.key) {
                sum.merge(&flow);
            } else if slot.flows.len() < MAX_FLOWS {
                slot.flows.insert(flow.key.clone(), flow);
            } else {
                dropped += 1;
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::report::traffic::Direction;

    use super::*;

    fn web() -> Identity {
        "spiffe://mesh.local/ns/shop/sa/web".parse().unwrap()
    }

    fn traffic(sequence: u64, service: &str) -> Traffic {
        let mut flow = Flow::new(FlowKey {
            direction: Direction::Outbound,
            service: service.parse().unwrap(),
            backend: None,
            peer: None,
        });
        flow.success.count = 1;
        Traffic {
            source: "a".into(),
            sequence,
            flows: vec![flow],
        }
    }

    fn counted(statistics: &Statistics, seconds: u64) -> u64 {
        let (_, flows) = statistics.within(Duration::from_secs(seconds));
        flows.iter().map(|(_, flow)| flow.success.count).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_twice_counts_once() {
        let statistics = Statistics::new();
        for sequence in [1, 1, 2, 1, 2] {
            statistics.add(&web(), traffic(sequence, "api.shop:80"));
        }
        assert_eq!(counted(&statistics, 60), 2);
        let other = Traffic {
            source: "b".into(),
            ..traffic(1, "api.shop:80")
        };
        statistics.add(&web(), other);
        assert_eq!(counted(&statistics, 60), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_holds_its_time_and_ten_minutes_at_most() {
        let statistics = Statistics::new();
        for sequence in 1..=100 {
            statistics.add(&web(), traffic(sequence, "api.shop:80"));
            tokio::time::advance(SLOT).await;
        }
        // The slot of this moment is empty yet.
        assert_eq!(counted(&statistics, 10), 1);
        assert_eq!(counted(&statistics, 60), 6);
        assert_eq!(counted(&statistics, 3_600), 60);
        tokio::time::advance(Duration::from_secs(7)).await;
        let (covered, _) = statistics.within(Duration::from_secs(60));
        assert_eq!(covered, Duration::from_secs(67));
        tokio::time::advance(LONGEST + SLOT).await;
        assert_eq!(counted(&statistics, 3_600), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_identity_has_room_for_so_many_flows() {
        let statistics = Statistics::new();
        let mut dropped = 0;
        for number in 0..3_000 {
            let flow = traffic(number + 1, &format!("s{number}.shop:80"));
            dropped += statistics.add(&web(), flow);
        }
        assert_eq!(dropped, 1_000);
        assert_eq!(counted(&statistics, 60), 2_000);
    }
}
