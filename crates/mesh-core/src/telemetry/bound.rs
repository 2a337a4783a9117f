//! How many series a family may have, and what those share that find no room.
//!
//! Labels come from plans and from peers that proved who they are, which are few;
//! but a mistake makes many. Sums by the labels that are kept stay right.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use metrics::Label;
use metrics_exporter_prometheus::formatting::sanitize_label_key;

/// Series that one family may have; later ones share their overflow series.
pub(super) const MAX_SERIES: usize = 10_000;
/// The same for histograms, each of which is some thirty lines.
pub(super) const MAX_HISTOGRAMS: usize = 2_000;
/// Overflow series of a family: all values that the labels in `KEPT` have together.
pub(super) const MAX_OVERFLOWS: usize = 16;

/// Labels with few values, which an overflow series keeps.
const KEPT: [&str; 6] = [
    "namespace",
    "deployment",
    "pod",
    "direction",
    "peer",
    "classification",
];

/// Which series there are on a recorder that somebody gave us, by family. It cannot forget any.
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

/// Labels as Prometheus' text format has them between the braces.
pub(super) fn shown(labels: &[Label]) -> String {
    let mut out = String::with_capacity(labels.len() * 32);
    for (place, label) in labels.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        out.push_str(&sanitize_label_key(label.key()));
        out.push_str("=\"");
        for character in label.value().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_end_its_label_or_its_line() {
        let labels = [
            Label::new("a-b", "x\\\" 1\nrequest_total 2"),
            Label::new("c", "\\n"),
        ];
        assert_eq!(shown(&labels), r#"a_b="x\\\" 1\nrequest_total 2",c="\\n""#);
    }
}
