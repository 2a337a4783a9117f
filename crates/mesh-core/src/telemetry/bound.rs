//! Keeps families from growing without end.
//!
//! Labels come from plans and from peers that proved who they are, which are few;
//! but years of deployments, or a mistake, make many. A family that is full sends
//! what is new to one series that keeps the labels with few values, so that sums
//! by them stay right, and counts what it turned away. What was registered stays.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use metrics::Label;

/// Series that one family may have; later ones share their overflow series.
pub(super) const MAX_SERIES: usize = 10_000;
/// The same for histograms, each of which is some thirty lines.
pub(super) const MAX_HISTOGRAMS: usize = 2_000;

/// Labels with few values, which an overflow series keeps.
const KEPT: [&str; 6] = [
    "namespace",
    "deployment",
    "pod",
    "direction",
    "peer",
    "classification",
];

/// Which series there are, by family.
#[derive(Debug, Default)]
pub(super) struct Bound {
    families: Mutex<HashMap<&'static str, HashSet<u64>, RandomState>>,
    hasher: RandomState,
}

impl Bound {
    /// Whether `labels` may have a series of their own in a family of at most `most`.
    pub(super) fn admits(&self, name: &'static str, labels: &[Label], most: usize) -> bool {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_default();
        let series = self.hasher.hash_one(labels);
        if family.len() >= most {
            return family.contains(&series);
        }
        family.insert(series);
        true
    }
}

/// The labels of the series for what found no room.
pub(super) fn overflow(labels: &[Label]) -> Vec<Label> {
    let kept = labels.iter().filter(|label| KEPT.contains(&label.key()));
    let mut labels: Vec<Label> = kept.cloned().collect();
    labels.push(Label::from_static_parts("overflow", "true"));
    labels
}
