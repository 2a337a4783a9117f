//! How many retries a client may add to the load it already sends.
//!
//! A count of attempts multiplies load exactly when the backend can bear it
//! least. A budget is a share of recent traffic instead: whatever fails, a
//! backend sees at most `ratio` more requests, and a floor lets a service with
//! little traffic retry at all. There is one for each service in each process,
//! shared by everything that sends a request twice.
//!
//! A ring of slots holds a window of time and the slot that is being filled. A
//! retry is granted while those in the ring stay within what the requests in the
//! ring and the floor of one window pay for. Every slot is one atomic word, so
//! counting a request takes one addition and no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::plan::outbound::BudgetPlan;

/// Slots of a window; one more is being filled.
const SLOTS: usize = 10;
const RING: usize = SLOTS + 1;

/// A word is `tick | requests | retries`. The ticks of a second-long slot repeat after
/// twelve days; a slot that nobody touched for exactly as long would count once more.
const COUNT_BITS: u32 = 22;
const MOST: u64 = (1 << COUNT_BITS) - 1;
const TICKS: u64 = 1 << (64 - 2 * COUNT_BITS);
const ONE_REQUEST: u64 = 1 << COUNT_BITS;
/// Room for the threads that add to a full slot at the same moment.
const FULL: u64 = MOST - 4096;

/// What a budget permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    ratio_per_mille: u32,
    min_per_second: u32,
    window: Duration,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self::from(None)
    }
}

impl BudgetLimits {
    /// Windows shorter or longer than these are cut to them.
    pub const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

    fn floor(&self) -> u64 {
        let millis = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        u64::from(self.min_per_second).saturating_mul(millis) / 1_000
    }
}

impl From<Option<BudgetPlan>> for BudgetLimits {
    fn from(plan: Option<BudgetPlan>) -> Self {
        let plan = plan.unwrap_or_default();
        let (least, most) = Self::WINDOW;
        Self {
            ratio_per_mille: plan.ratio_per_mille,
            min_per_second: plan.min_per_second,
            window: Duration::from_millis(plan.window_ms).clamp(least, most),
        }
    }
}

/// Counts requests and the retries granted against them.
///
/// ```
/// use std::time::Instant;
/// use mesh_policy::budget::{Budget, BudgetLimits};
///
/// let start = Instant::now();
/// let budget = Budget::new(BudgetLimits::default(), start);
/// budget.deposit(start);
/// assert!(budget.withdraw(start)); // the floor pays
/// ```
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    opened: Instant,
    slot_nanos: u64,
    ring: [AtomicU64; RING],
}

impl Budget {
    /// Opens an empty budget at `now`.
    #[must_use]
    pub fn new(limits: BudgetLimits, now: Instant) -> Self {
        let nanos = u64::try_from(limits.window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            limits,
            opened: now,
            slot_nanos: (nanos / SLOTS as u64).max(1),
            ring: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// What it permits: a budget is kept over a change of plans that leaves this alone.
    #[must_use]
    pub const fn limits(&self) -> BudgetLimits {
        self.limits
    }

    /// Counts one request, however often it will be tried.
    pub fn deposit(&self, now: Instant) {
        self.add(self.tick(now), ONE_REQUEST);
    }

    /// Grants one retry if the budget can pay for it.
    ///
    /// It is counted first and taken back if it was too much: of many at once perhaps
    /// too few are granted, never too many.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        let tick = self.tick(now);
        if !self.add(tick, 1) {
            return false;
        }
        let (requests, retries) = self.held(tick);
        let ratio = u64::from(self.limits.ratio_per_mille);
        let earned = requests.saturating_mul(ratio) / 1_000;
        let granted = retries <= earned.saturating_add(self.limits.floor());
        if !granted {
            self.take_back(tick);
        }
        granted
    }

    fn tick(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.opened).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX) / self.slot_nanos
    }

    fn slot(&self, tick: u64) -> &AtomicU64 {
        &self.ring[usize::try_from(tick % RING as u64).unwrap_or_default()]
    }

    /// Adds to the slot of `tick`, or to its successor if that has come meanwhile;
    /// `false` where it is full.
    fn add(&self, tick: u64, amount: u64) -> bool {
        let slot = self.slot(tick);
        let mut word = slot.load(Ordering::Relaxed);
        while age(word, tick) != 0 && !is_ahead(word, tick) {
            let fresh = (tick % TICKS) << (2 * COUNT_BITS) | amount;
            let (success, failure) = (Ordering::SeqCst, Ordering::Relaxed);
            match slot.compare_exchange_weak(word, fresh, success, failure) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        let (requests, retries) = counts(word);
        if requests >= FULL || retries >= FULL {
            return false;
        }
        slot.fetch_add(amount, Ordering::SeqCst);
        true
    }

    fn take_back(&self, tick: u64) {
        let slot = self.slot(tick);
        let mut word = slot.load(Ordering::Relaxed);
        // Where the slot has turned over, the retry that was not granted stays counted.
        while age(word, tick) == 0 && counts(word).1 > 0 {
            let (success, failure) = (Ordering::SeqCst, Ordering::Relaxed);
            match slot.compare_exchange_weak(word, word - 1, success, failure) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Requests and retries of the window that ends with the slot of `tick`.
    fn held(&self, tick: u64) -> (u64, u64) {
        let words = self.ring.iter().map(|slot| slot.load(Ordering::SeqCst));
        let held = words.filter(|word| age(*word, tick) < RING as u64 || is_ahead(*word, tick));
        held.map(counts)
            .fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }
}

/// How many ticks ago a slot was begun.
const fn age(word: u64, tick: u64) -> u64 {
    (tick % TICKS + TICKS - (word >> (2 * COUNT_BITS))) % TICKS
}

/// Whether a slot is of a later tick: another thread read the clock after us.
const fn is_ahead(word: u64, tick: u64) -> bool {
    age(word, tick) >= TICKS - 2 * RING as u64
}

const fn counts(word: u64) -> (u64, u64) {
    (word >> COUNT_BITS & MOST, word & MOST)
}

#[cfg(test)]
mod tests;
