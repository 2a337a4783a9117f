//! What one identity has reported: slots of flows, and the reports that were counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesh_policy::name::ServicePort;
use mesh_policy::report::traffic::{Flow, FlowKey, Outcomes, Traffic};

use super::packed::{MAX_BUCKET_BYTES, Packed};
use super::window::{MINUTE, Now, SLOT, Share};
use crate::quota::Charge;

/// Requests a second that one process can have sent or received: what is beyond is made up.
pub(crate) const MAX_PER_SECOND: u64 = 100_000;
/// Processes of one identity whose numbers are kept; the one that is silent longest goes.
const MAX_SOURCES: usize = 2_000;
/// What an identity costs beside its flows.
const BASE_BYTES: usize = 512;
/// What a source costs.
const SOURCE_BYTES: usize = 160;
/// What a key costs beside its names.
const KEY_BYTES: usize = 384;
/// What a flow of a slot costs beside its latencies.
const FLOW_BYTES: usize = 144;

/// What one identity has reported.
#[derive(Debug)]
pub(super) struct Reporter {
    sources: BTreeMap<String, Source>,
    /// Each key once, however many slots it is in.
    keys: BTreeSet<Arc<FlowKey>>,
    keys_bytes: usize,
    /// The last ones, each of ten seconds.
    slots: VecDeque<Arc<Slot>>,
    /// Older ones, added up by the minute.
    minutes: VecDeque<Arc<Slot>>,
    /// The slot in which it was last looked for what is old: once in each is enough.
    rolled: Option<u64>,
    charge: Charge,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    sequence: u64,
    slot: u64,
}

/// The flows of some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// Of a slot among slots, of a minute among minutes.
    number: u64,
    flows: BTreeMap<Arc<FlowKey>, Counts>,
    /// All requests.
    requests: u64,
    bytes: usize,
}

/// How the requests of a flow ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) success: Packed,
    pub(super) failure: Packed,
}

impl Counts {
    fn heap_bytes(&self) -> usize {
        self.success.heap_bytes() + self.failure.heap_bytes()
    }
}

impl Slot {
    pub(super) fn flows(&self) -> impl Iterator<Item = (&FlowKey, &Counts)> {
        self.flows.iter().map(|(key, counts)| (&**key, counts))
    }

    fn change(&mut self, key: &Arc<FlowKey>, change: impl FnOnce(&mut Counts)) {
        let counts = match self.flows.get_mut(key) {
            Some(counts) => counts,
            None => {
                self.bytes += FLOW_BYTES;
                self.flows.entry(Arc::clone(key)).or_default()
            }
        };
        let before = counts.heap_bytes();
        change(counts);
        self.bytes = self.bytes + counts.heap_bytes() - before;
    }

    fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        for (key, counts) in &other.flows {
            self.change(key, |sum| {
                sum.success.merge(&counts.success);
                sum.failure.merge(&counts.failure);
            });
        }
    }
}

impl Reporter {
    pub(super) const fn new(charge: Charge) -> Self {
        Self {
            sources: BTreeMap::new(),
            keys: BTreeSet::new(),
            keys_bytes: 0,
            slots: VecDeque::new(),
            minutes: VecDeque::new(),
            rolled: None,
            charge,
        }
    }

    /// Counts `traffic` once, of an identity that has `processes`; how many flows were not kept.
    pub(super) fn add(&mut self, now: Now, traffic: Traffic, processes: usize) -> usize {
        if self.rolled != Some(now.slot) {
            self.roll(now);
        }
        if !self.is_new(now, &traffic) {
            return 0;
        }
        if self.slots.back().is_none_or(|slot| slot.number < now.slot) {
            let number = now.slot;
            let slot = Slot {
                number,
                ..Slot::default()
            };
            self.slots.push_back(Arc::new(slot));
        }
        let processes = u64::try_from(processes).unwrap_or(u64::MAX);
        let most = processes.saturating_mul(MAX_PER_SECOND * SLOT.as_secs());
        let flows = traffic.flows.into_iter();
        flows.filter(|flow| !self.add_flow(flow, most)).count()
    }

    /// Whether a report was not counted before; from now on it is.
    fn is_new(&mut self, now: Now, traffic: &Traffic) -> bool {
        let before = self.sources.get(&traffic.source);
        if before.is_some_and(|before| before.sequence >= traffic.sequence) {
            return false;
        }
        let sources = self.sources.len() + usize::from(before.is_none());
        if sources > MAX_SOURCES || !self.has_room(SOURCE_BYTES) {
            let oldest = self.sources.iter().min_by_key(|(_, source)| source.slot);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.map(|name| self.sources.remove(&name));
        }
        let (sequence, slot) = (traffic.sequence, now.slot);
        let source = Source { sequence, slot };
        self.sources.insert(traffic.source.clone(), source);
        true
    }

    /// Adds one flow to the slot of now, if it makes sense and there is room for it.
    fn add_flow(&mut self, flow: &Flow, most: u64) -> bool {
        let sent = requests(flow);
        let slot = self.slots.back().expect("there is a slot for now");
        let all = slot.requests.saturating_add(sent.unwrap_or(u64::MAX));
        if sent.is_none() || all > most || !self.has_room(flow_bytes(flow)) {
            return false;
        }
        let key = if let Some(key) = self.keys.get(&flow.key) {
            Arc::clone(key)
        } else {
            let key = Arc::new(flow.key.clone());
            self.keys_bytes += key_bytes(&key);
            self.keys.insert(Arc::clone(&key));
            key
        };
        let slot = self.slots.back_mut().expect("there is a slot for now");
        let slot = Arc::make_mut(slot);
        slot.requests = all;
        slot.change(&key, |counts| {
            counts.success.add(&flow.success);
            counts.failure.add(&flow.failure);
        });
        true
    }

    /// Whether a flow of this key was kept lately.
    pub(super) fn has_reported(&self, key: &FlowKey) -> bool {
        self.keys.contains(key)
    }

    /// Adds up what is older than a minute and forgets what no window reaches; whether anything
    /// is left.
    pub(super) fn roll(&mut self, now: Now) -> bool {
        self.rolled = Some(now.slot);
        while self
            .slots
            .front()
            .is_some_and(|slot| !now.is_apart(slot.number))
            && let Some(slot) = self.slots.pop_front()
        {
            let minute = slot.number / MINUTE;
            if self.minutes.back().is_none_or(|last| last.number < minute) {
                let mut first = Arc::unwrap_or_clone(slot);
                first.number = minute;
                self.minutes.push_back(Arc::new(first));
            } else if let Some(last) = self.minutes.back_mut() {
                Arc::make_mut(last).merge(&slot);
            }
        }
        self.minutes
            .retain(|minute| !now.is_forgotten(minute.number));
        self.sources
            .retain(|_, source| !now.is_forgotten(source.slot / MINUTE));
        // A slot that a reader still merges holds keys a little longer.
        self.keys.retain(|key| Arc::strong_count(key) > 1);
        self.keys_bytes = self.keys.iter().map(|key| key_bytes(key)).sum();
        let rolled = self.charge.resize(self.bytes());
        // Adding up may need a little more where latencies of a minute are spread widely.
        drop(rolled);
        !self.slots.is_empty() || !self.minutes.is_empty()
    }

    /// The slots of which a part lies in the last `window`, and which part.
    pub(super) fn within(&self, now: Now, window: Duration) -> Vec<(Share, Arc<Slot>)> {
        let minutes = self.minutes.iter();
        let minutes = minutes.map(|slot| (now.minute(slot.number), slot));
        let slots = self.slots.iter();
        let slots = slots.map(|slot| (slot.number..slot.number + 1, slot));
        let all = minutes.chain(slots);
        all.filter_map(|(time, slot)| Some((now.share(&time, window)?, Arc::clone(slot))))
            .collect()
    }

    /// Charges `more` bytes beside what is kept, if there is room for them.
    fn has_room(&mut self, more: usize) -> bool {
        let bytes = self.bytes() + more;
        self.charge.resize(bytes).is_ok()
    }

    fn bytes(&self) -> usize {
        let slots = self.slots.iter().chain(&self.minutes);
        let slots: usize = slots.map(|slot| slot.bytes).sum();
        BASE_BYTES + self.sources.len() * SOURCE_BYTES + self.keys_bytes + slots
    }
}

/// The requests of a flow; `None` if they cannot be: more latencies than requests.
fn requests(flow: &Flow) -> Option<u64> {
    let sound = |outcomes: &Outcomes| outcomes.latency.count() <= outcomes.count;
    if !sound(&flow.success) || !sound(&flow.failure) {
        return None;
    }
    flow.success.count.checked_add(flow.failure.count)
}

/// What keeping a flow takes at most.
fn flow_bytes(flow: &Flow) -> usize {
    let buckets = |outcomes: &Outcomes| outcomes.latency.buckets().count() * MAX_BUCKET_BYTES;
    key_bytes(&flow.key) + FLOW_BYTES + buckets(&flow.success) + buckets(&flow.failure)
}

fn key_bytes(key: &FlowKey) -> usize {
    let port = |port: &ServicePort| {
        let service = &port.service;
        service.name.as_str().len() + service.namespace.as_str().len()
    };
    let backend = key.backend.as_ref().map_or(0, port);
    let peer = key.peer.as_ref().map_or(0, |peer| peer.as_str().len());
    KEY_BYTES + port(&key.service) + backend + peer
}
