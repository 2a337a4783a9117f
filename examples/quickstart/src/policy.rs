//! The demo's policy: the YAML of `policy/`, with the weights that were asked for.

use clap::ValueEnum;

/// Who writes the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Gateway API's `HTTPRoute`.
    Httproute,
    /// SMI's `TrafficSplit`.
    Trafficsplit,
}

/// Shares of the two backends.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    stable: u32,
    canary: u32,
}

impl Weights {
    /// Gives the canary this percentage, and api-stable the rest.
    pub fn with_canary(percent: u32) -> Self {
        Self {
            stable: 100 - percent,
            canary: percent,
        }
    }
}

/// All documents, ready to apply.
pub fn documents(split: Split, weights: Weights) -> String {
    let split = match split {
        Split::Httproute => include_str!("../policy/httproute.yaml"),
        Split::Trafficsplit => include_str!("../policy/trafficsplit.yaml"),
    };
    let split = split
        .replace("weight: 95", &format!("weight: {}", weights.stable))
        .replace("weight: 5\n", &format!("weight: {}\n", weights.canary));
    let services = include_str!("../policy/services.yaml");
    let access = include_str!("../policy/access.yaml");
    format!("{services}---\n{split}---\n{access}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_splits_take_the_weights_that_were_asked_for() {
        for split in [Split::Httproute, Split::Trafficsplit] {
            let text = documents(split, Weights::with_canary(30));
            assert!(text.contains("weight: 70\n"), "{text}");
            assert!(text.contains("weight: 30\n"), "{text}");
        }
    }
}
